"""Figures of tables that analyses return, and their files."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clip_lens_plugin.views.plots import LINE_STYLES

DASHES = ("-", "--", ":", "-.")
"""Taken in turn where there are more lines than colours."""

CURVE = ("base", "attention")
"""Kinds of ablation that make the curve; others stand beside it."""

MOST_COLUMNS = 4


def ablation_figure(table: pd.DataFrame) -> Figure:
    """Accuracy against the number of attention layers ablated, its interval as a band; other sets as points beside.

    Args:
        table: columns ablated, kind, layers, accuracy, low, high, ablation, effect; a line for each pair of the
            last two.
    """
    curve, others = table.query("kind in @CURVE"), table.query("kind not in @CURVE")
    n_layers = max(curve["layers"].tolist())
    beside = list(dict.fromkeys(others["ablated"]))
    gap = max(1.0, 0.2 * n_layers)
    first = n_layers + gap
    place = {name: first + i * gap for i, name in enumerate(beside)}
    figure = Figure(figsize=(5.4 + 0.9 * len(beside), 4.4), layout="constrained")
    axes = figure.add_subplot()
    for i, (pair, rows) in enumerate(table.groupby(["ablation", "effect"], sort=False)):
        colour, marker = LINE_STYLES[i % len(LINE_STYLES)]
        line = rows.query("kind in @CURVE").sort_values("layers")
        name = "{} ablation, {} effect".format(*pair)  # type: ignore[misc]
        axes.plot(line["layers"], 100 * line["accuracy"], color=colour, marker=marker, ms=5, label=name)
        axes.fill_between(line["layers"], 100 * line["low"], 100 * line["high"], color=colour, alpha=0.2, lw=0)
        for row in rows.query("kind not in @CURVE").to_dict("records"):
            x = place[row["ablated"]]
            axes.plot([x, x], [100 * row["low"], 100 * row["high"]], color=colour, alpha=0.35, lw=5)
            axes.plot([x], [100 * row["accuracy"]], color=colour, marker=marker, ms=7)
    if beside:
        axes.axvline((n_layers + first) / 2, color="0.7", lw=1)
    ticks = list(range(0, n_layers + 1, max(1, -(-n_layers // 12))))
    names = [str(tick) for tick in ticks] + [textwrap.fill(name, 11) for name in beside]
    axes.set_xticks([*ticks, *place.values()], labels=names)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("attention layers ablated, from the first on" + (" | other components" if beside else ""))
    axes.set_ylabel("zero-shot accuracy (%), 95 % interval")
    axes.grid(axis="y", color="0.9")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def explained_variance_figure(table: pd.DataFrame) -> Figure:
    """Share of a head's variance that its first texts explain, a panel a layer and a line a head.

    Args:
        table: columns layer, head, rank (from 1), explained_variance (share, cumulative).
    """
    layers = sorted(set(table["layer"]))
    columns = max(1, min(MOST_COLUMNS, len(layers)))
    rows = max(1, -(-len(layers) // columns))
    figure = Figure(figsize=(1.2 + 2.9 * columns, 1.4 + 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, layer in zip(grid, layers, strict=False):
        for head, line in table[table["layer"] == layer].groupby("head"):
            _head_line(axes, int(head), line)  # type: ignore[arg-type]
        axes.set_title(f"layer {layer}", fontsize=10)
        axes.grid(color="0.9")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in grid[len(layers) :]:
        axes.set_axis_off()
    grid[0].set_ylim(-3, 103)
    figure.supxlabel("number of texts", fontsize=10)
    figure.supylabel("explained variance (%)", fontsize=10)
    lines = {line.get_label(): line for axes in grid for line in axes.get_lines()}
    ordered = sorted(lines, key=lambda name: int(str(name).split()[-1]))
    figure.legend([lines[name] for name in ordered], ordered, loc="outside upper center", ncols=8, frameon=False)
    return figure


def _head_line(axes: Axes, head: int, line: pd.DataFrame) -> None:
    colour, marker = LINE_STYLES[head % len(LINE_STYLES)]
    axes.plot(
        line["rank"],
        100 * line["explained_variance"],
        color=colour,
        marker=marker,
        ms=4,
        markevery=max(1, len(line) // 8),
        ls=DASHES[head // len(LINE_STYLES) % len(DASHES)],
        lw=1.2,
        label=f"head {head}",
    )


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a .png or .svg; the same figure gives the same bytes, without matplotlib's version and the date.

    Raises:
        ValueError: for another suffix.
    """
    suffix = Path(path).suffix
    if suffix not in (".png", ".svg"):
        raise ValueError(f"A figure is saved as .png or .svg, got {path}.")
    absent = {"Software": None} if suffix == ".png" else {"Creator": None, "Date": None}
    # Elements of an SVG are named at random but for the salt.
    with matplotlib.rc_context({"svg.hashsalt": "clip-lens"}):
        figure.savefig(path, dpi=150, facecolor="white", metadata=absent)
