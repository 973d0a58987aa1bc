"""Figures of tables that analyses return, as wide as a paper's column or page; layer 0 at the top, or at the left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clip_lens_plugin.ablation.completeness import MODEL, WHOLE
from clip_lens_plugin.decomposition.parts.extras import COMPONENTS
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.colours import ADDS, LINE_STYLES, NEUTRAL, SIGNED, TAKES, WEIGHTS
from clip_lens_plugin.views.drawing.layout.layers import LAYER_AXIS, label_grid
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import (
    BAR,
    COLUMN,
    MARGIN,
    PAGE,
    SMALL,
    TEXT,
    Sheet,
    line_height,
    text_height,
    text_width,
    wrapped,
)
from clip_lens_plugin.views.drawing.numbers import signed

CURVE = ("base", "attention")
"""Kinds of ablation that make the curve; others stand beside it."""

MOST_COLUMNS = 4
MOST_OF_NAME = 120
"""Characters of a line's name."""

MOST_NUMBERED_HEADS = 20
"""Heads per row for which there is room for a number in each cell."""

LAYERS_AS_WIDE_AS_A_NAME = 14
"""Layers beside which a bar's name has as much room as a layer."""

LEAST_NUMBERED = 0.1
"""Of the greatest share; cells of less have no number, and next to no colour."""

HIGHEST = 8.5
"""Inches of a grid of all layers."""

LEFT = 0.5
"""Inches for the numbers and the name of an axis that goes up."""

EACH_LINE = "Each line is a head: orange explained most, purple least."

BESIDE = {WHOLE: ("all directions: heads whole", "--"), MODEL: ("model", ":")}
"""What curves over texts are compared with: its name and the style of its line."""

HANDLE = 0.37
"""Inches of a legend's sign beside its text, with the room to the next."""


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
    lines = _lines(table)
    width = PAGE if len(beside) > 1 or n_layers > 12 else COLUMN
    columns = min(len(lines), 2 if width == PAGE else 1)
    top = _legend_height(len(lines), columns)
    between = gap / (n_layers + 0.5 + gap * len(beside)) * (width - LEFT - MARGIN)
    tick_names = [wrapped(name, min(0.9, between), SMALL, 4) for name in beside]
    bottom = max([text_height("0", SMALL), *(text_height(each, SMALL) for each in tick_names)]) + 0.24
    sheet = Sheet(width, top + 2.1 + bottom)
    axes = sheet.axes(LEFT, top, width - LEFT - MARGIN, 2.1)
    named: list[tuple[Artist, str]] = []
    for i, (label, rows) in enumerate(lines):
        colour, marker = LINE_STYLES[i % len(LINE_STYLES)]
        line = rows.query("kind in @CURVE").sort_values("layers")
        named.append((_accuracy_line(axes, "layers", line, i), label))
        for row in rows.query("kind not in @CURVE").to_dict("records"):
            x = place[row["ablated"]] + 0.07 * gap * (i - (len(lines) - 1) / 2)
            axes.plot([x, x], [100 * row["low"], 100 * row["high"]], color=colour, alpha=0.35, lw=4)
            axes.plot([x], [100 * row["accuracy"]], color=colour, marker=marker, ms=5)
    if beside:
        axes.axvline((n_layers + first) / 2, color="0.7", lw=1)
    ticks = list(range(0, n_layers + 1, max(1, -(-n_layers // 12))))
    axes.set_xticks([*ticks, *place.values()], labels=[*(str(tick) for tick in ticks), *tick_names])
    axes.set_xlim(-0.5, max([n_layers, *place.values()]) + 0.5 * gap)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("attention layers ablated, from the first on" + (" | other components" if beside else ""))
    axes.set_ylabel("zero-shot accuracy (%), 95 % interval")
    axes.grid(axis="y", color="0.9")
    _legend(sheet, named, columns)
    return sheet.figure


def _accuracy_line(axes: Axes, x: str, line: pd.DataFrame, place: int) -> Artist:
    """Accuracy over the column x, in the style of that place among the lines, with its interval as a band."""
    colour, marker = LINE_STYLES[place % len(LINE_STYLES)]
    (drawn,) = axes.plot(line[x], 100 * line["accuracy"], color=colour, marker=marker, ms=3.5, lw=1.2)
    axes.fill_between(line[x], 100 * line["low"], 100 * line["high"], color=colour, alpha=0.2, lw=0)
    return drawn


def _lines(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    if "question" in table:
        return [(str(question), rows) for question, rows in table.groupby("question", sort=False)]
    pairs = table.groupby(["ablation", "effect"], sort=False)
    return [("{} ablation, {} effect".format(*pair), rows) for pair, rows in pairs]  # type: ignore[misc]


@plainly_lettered
def explained_variance_figure(table: pd.DataFrame) -> Figure:
    """Share of a head's variance that its first texts explain, one panel per layer and one line per head.

    Of each layer the heads whose texts explain most and least, on the average over the numbers of texts, are named;
    lines of the others are grey, since a dozen colours cannot be told apart.

    Args:
        table: columns layer, head, rank (from 1), explained_variance (share, cumulative).
    """
    layers = sorted(set(table["layer"]))
    panels = _Panels(len(layers), MARGIN + text_height(EACH_LINE, SMALL), 0.34)
    sheet = panels.sheet
    sheet.text(LEFT, MARGIN, wrapped(EACH_LINE, sheet.width - LEFT - MARGIN, SMALL), SMALL)
    for (axes, left, high), layer in zip(panels, layers, strict=True):
        own = table[table["layer"] == layer]
        means = own.groupby("head")["explained_variance"].mean()
        most, least = int(means.idxmax()), int(means.idxmin())  # type: ignore[arg-type]
        for head, line in own.groupby("head"):
            colour = {least: TAKES, most: ADDS}.get(int(head))  # type: ignore[arg-type]
            x, y = line["rank"], 100 * line["explained_variance"]
            axes.plot(x, y, color=colour or NEUTRAL, lw=1.3 if colour else 0.6, zorder=3 if colour else 2)
        sheet.text(left, high - 0.17, f"head {most}", SMALL, color=ADDS, weight="bold")
        if least != most:
            sheet.text(left + panels.wide, high - 0.17, f"head {least}", SMALL, color=TAKES, weight="bold", ha="right")
        axes.set_title(f"layer {layer}", pad=13)
    panels.label("number of texts", "explained variance (%)")
    return sheet.figure


@plainly_lettered
def text_span_completeness_figure(table: pd.DataFrame) -> Figure:
    """Accuracy against the number of texts per head, a panel for each question and a line for each pool of texts.

    Args:
        table: columns pool, n_texts (0 for what pools are compared with), accuracy, low, high; question or not.
    """
    questions = [("", table)] if "question" not in table else list(table.groupby("question", sort=False))
    pools = list(dict.fromkeys(table.query("n_texts > 0")["pool"]))
    entries = len(pools) + len(BESIDE)
    columns = min(entries, 4 if _Panels.width_of(len(questions)) == PAGE else 2)
    panels = _Panels(len(questions), _legend_height(entries, columns), 0.34 if "question" in table else MARGIN)
    named: dict[tuple[str, int], Artist] = {}  # A user's pool may be called "model", too.
    for (axes, _, _), (question, rows) in zip(panels, questions, strict=True):
        for i, pool in enumerate(pools):
            line = rows.query("pool == @pool and n_texts > 0").sort_values("n_texts")
            named[pool, 1] = _accuracy_line(axes, "n_texts", line, i)
        for pool, (name, style) in BESIDE.items():
            whole = rows.query(f"pool == {pool!r} and n_texts == 0")
            for accuracy in whole["accuracy"]:
                named[name, 0] = axes.axhline(100 * accuracy, color="0.35", ls=style, lw=1)
        axes.set_title(wrapped(str(question), panels.wide, TEXT))
    panels.label("texts per head (bands: 95 % intervals)", "zero-shot accuracy (%)")
    _legend(panels.sheet, [(artist, name) for (name, _), artist in named.items()], columns)
    return panels.sheet.figure


class _Panels:
    """Panels of one size on a sheet, over the same numbers from left to right and per cent upwards.

    Attributes:
        sheet: on which they are.
        wide: inches of a panel.
    """

    def __init__(self, n: int, top: float, above: float) -> None:
        """So many panels, with as many inches for what stands above all, and above each."""
        width = self.width_of(n)
        self._n, self._columns, self._top, self._above = n, max(1, min(MOST_COLUMNS, n)), top, above
        self._across = (width - LEFT - MARGIN) / self._columns
        self._high, self.wide = min(1.5, self._across), self._across - 0.12
        self._down = above + self._high + 0.16
        rows = max(1, -(-n // self._columns))
        self.sheet = Sheet(width, top + rows * self._down + 0.24)

    @staticmethod
    def width_of(n: int) -> float:
        """Inches of a sheet with so many."""
        return PAGE if n > 2 else COLUMN

    def __iter__(self) -> Iterator[tuple[Axes, float, float]]:
        """Each in turn, and where its upper left corner is."""
        first: Axes | None = None
        for i in range(self._n):
            row, column = divmod(i, self._columns)
            left, top = LEFT + column * self._across, self._top + self._above + row * self._down
            axes = self.sheet.axes(left, top, self.wide, self._high, sharex=first, sharey=first)
            first = first or axes
            axes.grid(color="0.9")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            axes.set_ylim(-3, 103)
            axes.tick_params(labelleft=column == 0, labelbottom=i + self._columns >= self._n)
            yield axes, left, top

    def label(self, across: str, up: str) -> None:
        """Says what the numbers of both directions are."""
        self.sheet.figure.supxlabel(across, size=TEXT, y=0.04 / self.sheet.height, va="bottom")
        self.sheet.figure.supylabel(up, size=TEXT, x=0.04 / self.sheet.width, ha="left")


@plainly_lettered
def layer_figure(layers: pd.DataFrame) -> Figure:
    """What each layer's heads and MLP add to the embedding, with the constants' share beside.

    Args:
        layers: columns part ("heads", "attn_bias", "mlp"; "embed", "ln_bias", and those of
            :data:`~clip_lens_plugin.decomposition.parts.extras.COMPONENTS` that there are), layer, share_mean,
            share_std.
    """
    n_layers = len(set(layers["layer"].dropna().tolist()))
    names = {"ln_bias": "LN bias", **{name: extra.short for name, extra in COMPONENTS.items()}}
    after = [part for part in names if part in set(layers["part"])]
    width = PAGE if n_layers + len(after) > 8 else COLUMN
    parts = {"heads": "attention heads", "mlp": "MLP", "attn_bias": "attention bias"}
    top = _legend_height(len(parts), len(parts))
    sheet = Sheet(width, top + 2.0 + 0.55)
    axes = sheet.axes(LEFT, top, width - LEFT - MARGIN, 2.0)
    named: list[tuple[Artist, str]] = []
    for i, (part, name) in enumerate(parts.items()):
        rows = layers.query(f"part == {part!r}").sort_values("layer")
        x = rows["layer"].to_numpy(dtype=float) + 1 + 0.27 * (i - 1)
        mean, std = (100 * rows[column].to_numpy(dtype=float) for column in ("share_mean", "share_std"))
        bars = axes.bar(x, mean, 0.25, yerr=std, color=LINE_STYLES[i][0], error_kw={"lw": 0.6, "ecolor": "0.35"})
        named.append((bars.patches[0], name))
    apart = max(1.0, n_layers / LAYERS_AS_WIDE_AS_A_NAME)
    place = {"embed": 1 - apart, **{part: n_layers + apart * i for i, part in enumerate(after, start=1)}}
    for part, x in place.items():
        row = layers[layers["part"] == part].iloc[0]
        height, std = 100 * row["share_mean"], 100 * row["share_std"]
        axes.bar([x], [height], 0.4 * apart, yerr=[std], color=NEUTRAL, error_kw={"lw": 0.6, "ecolor": "0.35"})
    shown = range(0, n_layers, 1 if n_layers <= 24 else 2)
    ticks = ["embed", *(str(layer) for layer in shown), *(names[part].replace(" ", "\n") for part in after)]
    axes.set_xticks([place["embed"], *(layer + 1 for layer in shown), *(place[part] for part in after)], labels=ticks)
    axes.set_xlim(place["embed"] - 0.6 * apart, max(n_layers, *place.values()) + 0.6 * apart)
    axes.axhline(0, color="0.3", lw=0.6)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlabel(LAYER_AXIS)
    axes.set_ylabel("share of ‖M‖² (%), ± std over images")
    _legend(sheet, named, len(parts))
    return sheet.figure


@plainly_lettered
def head_figure(heads: pd.DataFrame) -> Figure:
    """Layers by heads, coloured by share_mean; in per cent, numbers where it is a tenth of the greatest or more.

    Args:
        heads: columns layer, head, share_mean.
    """
    grid = 100 * heads.pivot(index="layer", columns="head", values="share_mean").to_numpy()
    sheet = Sheet(grid_width(grid), MARGIN + grid_height(grid))
    draw_grid(sheet, MARGIN, grid, "mean share of ‖M‖² that a head adds (%)", places=1)
    return sheet.figure


def grid_width(grid: np.ndarray) -> float:
    """Inches of a figure with a grid of layers by heads."""
    return PAGE if grid.shape[1] > 6 else COLUMN


def grid_height(grid: np.ndarray) -> float:
    """Inches that :func:`draw_grid` takes."""
    return _rows_height(grid) + 0.4 + BAR


def draw_grid(sheet: Sheet, top: float, grid: np.ndarray, label: str, places: int, signed_values: bool = True) -> Axes:
    """Layers by heads with a number in each cell of a tenth of the greatest or more, over a bar of the colours.

    A cell of NaN is white and has no number.

    Args:
        sheet: as wide as :func:`grid_width`.
        top: inches from its upper edge.
        grid: [l, h].
        label: what its numbers are.
        places: of the numbers, after the point.
        signed_values: whether values may be below zero; colours go from white at 0 up if not.
    """
    n_layers, n_heads = grid.shape
    wide, high = sheet.width - LEFT - MARGIN, _rows_height(grid)
    axes = sheet.axes(LEFT, top, wide, high)
    limit = float(np.nan_to_num(np.abs(grid)).max(initial=0.0)) or 1.0
    colours, least = (SIGNED, -limit) if signed_values else (WEIGHTS, 0.0)
    axes.imshow(grid, cmap=colours, vmin=least, vmax=limit, aspect="auto")
    numbered = np.argwhere(np.abs(grid) >= LEAST_NUMBERED * limit) if n_heads <= MOST_NUMBERED_HEADS else ()
    for layer, head in numbered:
        value = float(grid[layer, head])
        ink = "w" if abs(value) > 0.65 * limit else "k"
        axes.text(head, layer, signed(value, places).lstrip("+"), ha="center", va="center", size=SMALL, color=ink)
    label_grid(axes, n_layers, n_heads)
    sheet.colour_bar(LEFT, top + high + 0.4, min(wide, 2.6), colours, (least, limit), label)
    return axes


def _rows_height(grid: np.ndarray) -> float:
    return min(0.24 * len(grid), HIGHEST)


def _legend_height(entries: int, columns: int) -> float:
    return MARGIN + (line_height(SMALL) + 0.02) * -(-entries // max(1, columns)) + 0.06


def _legend(sheet: Sheet, named: Sequence[tuple[Artist, str]], columns: int) -> None:
    """Above all, in :func:`_legend_height`; names are cut to what a column has room for."""
    names = [one_line(name, MOST_OF_NAME) for _, name in named]
    rows = -(-len(names) // max(1, columns))
    widest = (max(text_width(name, SMALL) for name in names[i : i + rows]) for i in range(0, len(names), rows))
    if sum(widest) + columns * HANDLE > sheet.width - 2 * MARGIN:
        names = [wrapped(name, (sheet.width - 2 * MARGIN) / columns - HANDLE, SMALL) for name in names]
    # matplotlib leaves out of a legend what begins with an underscore.
    names = [f" {name}" if name.startswith("_") else name for name in names]
    sheet.figure.legend(
        [artist for artist, _ in named],
        names,
        loc="upper left",
        bbox_to_anchor=(MARGIN / sheet.width, 1 - MARGIN / sheet.height),
        ncols=columns,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        labelspacing=0.35,
        handlelength=1.8,
        columnspacing=1.2,
    )
