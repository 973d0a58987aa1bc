"""Figures of tables that analyses return."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.colours import LINE_STYLES, SIGNED
from clip_lens_plugin.views.drawing.lettering import plainly_lettered

DASHES = ("-", "--", ":", "-.")
"""Taken in turn where there are more lines than colours."""

CURVE = ("base", "attention")
"""Kinds of ablation that make the curve; others stand beside it."""

MOST_COLUMNS = 4
MOST_OF_LABEL = 60
"""Characters of a line's name."""


@plainly_lettered
def ablation_figure(table: pd.DataFrame) -> Figure:
    """Accuracy against the number of attention layers ablated, its interval as a band; other sets as points beside.

    Args:
        table: columns ablated, kind, layers, accuracy, low, high, ablation, effect; with a column question there is one
            line per question, else one for each pair of the last two.
    """
    curve, others = table.query("kind in @CURVE"), table.query("kind not in @CURVE")
    n_layers = max(curve["layers"].tolist())
    beside = list(dict.fromkeys(others["ablated"]))
    gap = max(1.0, 0.2 * n_layers)
    first = n_layers + gap
    place = {name: first + i * gap for i, name in enumerate(beside)}
    figure = Figure(figsize=(5.4 + 0.9 * len(beside), 4.4), layout="constrained")
    axes = figure.add_subplot()
    lines = _lines(table)
    for i, (named, rows) in enumerate(lines):
        # matplotlib leaves out of a legend what begins with an underscore.
        shown = f" {named}" if named.startswith("_") else named
        colour, marker = LINE_STYLES[i % len(LINE_STYLES)]
        line = rows.query("kind in @CURVE").sort_values("layers")
        axes.plot(line["layers"], 100 * line["accuracy"], color=colour, marker=marker, ms=5, label=shown)
        axes.fill_between(line["layers"], 100 * line["low"], 100 * line["high"], color=colour, alpha=0.2, lw=0)
        for row in rows.query("kind not in @CURVE").to_dict("records"):
            x = place[row["ablated"]] + 0.07 * gap * (i - (len(lines) - 1) / 2)
            axes.plot([x, x], [100 * row["low"], 100 * row["high"]], color=colour, alpha=0.35, lw=5)
            axes.plot([x], [100 * row["accuracy"]], color=colour, marker=marker, ms=7)
    if beside:
        axes.axvline((n_layers + first) / 2, color="0.7", lw=1)
    ticks = list(range(0, n_layers + 1, max(1, -(-n_layers // 12))))
    names = [str(tick) for tick in ticks] + [textwrap.fill(one_line(name, MOST_OF_LABEL), 11) for name in beside]
    axes.set_xticks([*ticks, *place.values()], labels=names)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("attention layers ablated, from the first on" + (" | other components" if beside else ""))
    axes.set_ylabel("zero-shot accuracy (%), 95 % interval")
    axes.grid(axis="y", color="0.9")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def _lines(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    if "question" in table:
        questions = table.groupby("question", sort=False)
        return [(one_line(str(question), MOST_OF_LABEL), rows) for question, rows in questions]
    pairs = table.groupby(["ablation", "effect"], sort=False)
    return [("{} ablation, {} effect".format(*pair), rows) for pair, rows in pairs]  # type: ignore[misc]


@plainly_lettered
def explained_variance_figure(table: pd.DataFrame) -> Figure:
    """Share of a head's variance that its first texts explain, one panel per layer and one line per head.

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


@plainly_lettered
def layer_figure(layers: pd.DataFrame) -> Figure:
    """What each layer's heads and MLP add to the embedding, with the constants' share beside.

    Args:
        layers: columns part ("heads", "attn_bias", "mlp"; "embed", "ln_bias", and where attention pools "pool_bias",
            "pool_mlp"), layer, share_mean, share_std.
    """
    n_layers = len(set(layers["layer"].dropna().tolist()))
    named = {"ln_bias": "LN bias", "pool_bias": "pool bias", "pool_mlp": "pool MLP"}
    after = [part for part in named if part in set(layers["part"])]
    figure = Figure(figsize=(2.2 + 0.42 * (n_layers + 1 + len(after)), 3.4), layout="constrained")
    axes = figure.add_subplot()
    parts = {"heads": "attention heads", "mlp": "MLP", "attn_bias": "attention bias"}
    for i, (part, name) in enumerate(parts.items()):
        rows = layers.query(f"part == {part!r}").sort_values("layer")
        x = rows["layer"].to_numpy(dtype=float) + 1 + 0.27 * (i - 1)
        mean, std = (100 * rows[column].to_numpy(dtype=float) for column in ("share_mean", "share_std"))
        axes.bar(x, mean, 0.25, yerr=std, color=LINE_STYLES[i][0], label=name, error_kw={"lw": 0.8, "ecolor": "0.35"})
    for x, part in ((0, "embed"), *enumerate(after, n_layers + 1)):
        row = layers[layers["part"] == part].iloc[0]
        axes.bar([x], [100 * row["share_mean"]], 0.4, yerr=[100 * row["share_std"]], color="0.6", error_kw={"lw": 0.8})
    ticks = ["embed", *(str(l) for l in range(n_layers)), *(named[part].replace(" ", "\n") for part in after)]
    axes.set_xticks(range(len(ticks)), labels=ticks, fontsize=8 if n_layers < 16 else 6)
    axes.axhline(0, color="0.3", lw=0.8)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlabel("layer (0 is first)")
    axes.set_ylabel("share of ‖M‖² (%), ± std")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


@plainly_lettered
def head_figure(heads: pd.DataFrame) -> Figure:
    """Layers × heads, coloured by share_mean; numbers in per cent.

    Args:
        heads: columns layer, head, share_mean.
    """
    grid = heads.pivot(index="layer", columns="head", values="share_mean").to_numpy()
    n_layers, n_heads = grid.shape
    figure = Figure(figsize=(1.4 + 0.55 * n_heads, 1.1 + 0.42 * n_layers), layout="constrained")
    axes = figure.add_subplot()
    limit = float(np.abs(grid).max(initial=0.0)) or 1.0
    shown = axes.imshow(grid * 100, cmap=SIGNED, vmin=-100 * limit, vmax=100 * limit, aspect="auto")
    for (l, h), share in np.ndenumerate(grid):
        dark = abs(share) > 0.65 * limit
        axes.text(h, l, f"{100 * share:.1f}", ha="center", va="center", size=8, color="w" if dark else "k")
    axes.set_xticks(range(n_heads), labels=[str(h) for h in range(n_heads)])
    axes.set_yticks(range(n_layers), labels=[str(l) for l in range(n_layers)])
    axes.set_xlabel("head")
    axes.set_ylabel("layer (0 is first)")
    figure.colorbar(shown, label="mean share of ‖M‖² (%)")
    return figure
