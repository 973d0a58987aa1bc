"""Static figures of grids of parts: a heat map for each image and text, all on one scale."""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from clip_lens_plugin.views.drawing.colours import SIGNED
from clip_lens_plugin.views.drawing.layout.layers import LAYER_AXIS, ROOM
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import (
    BAR,
    COLUMN,
    MARGIN,
    PAGE,
    SMALL,
    TEXT,
    Sheet,
    heading_height,
    line_height,
    text_height,
    wrapped,
)
from clip_lens_plugin.views.drawing.numbers import signed
from clip_lens_plugin.views.report.part_grids import Blocks, PartGrid

LEFT, BELOW = 0.5, 0.55
"""Inches for the numbers and the names of the axes."""

SIDE = COLUMN - LEFT - 2 * MARGIN
"""Inches of a heat map's longer side."""

LEAST = 0.35
"""Of the longer side: a heat map's shorter one, however few parts there are."""

UPRIGHT = 0.1
"""Inches that a name takes across which is turned."""

NARROWEST = 1.6
"""Inches for the words over a heat map."""


@plainly_lettered
def parts_figure(grid: PartGrid, *, title: str) -> Figure:
    """Heat maps side by side, each under the names of its image and text and their cosine."""
    rows, columns = len(grid.rows), len(grid.columns)
    wide = SIDE * max(LEAST, min(1.0, columns / rows))
    high = SIDE * max(LEAST, min(1.0, rows / columns))
    pairs = [(i, t) for i in range(len(grid.images)) for t in range(len(grid.texts))]
    across = min(len(pairs), int((PAGE - MARGIN) / max(NARROWEST, LEFT + wide + 2 * MARGIN)))
    width = COLUMN if len(pairs) == 1 else PAGE
    cell = (width - MARGIN) / across
    named = [wrapped(f"{grid.images[i]} · “{grid.texts[t]}”", cell - MARGIN, TEXT, 3) for i, t in pairs]
    captions = [wrapped(f"{grid.summed} {_number(grid.values[i, t].sum())}", cell - MARGIN, SMALL, 2) for i, t in pairs]
    above = max(map(partial(text_height, size=TEXT), named)) + line_height(TEXT)
    above += max(map(partial(text_height, size=SMALL), captions)) + 0.06
    down = above + high + BELOW
    top = MARGIN + heading_height(title, width)
    sheet = Sheet(width, top + -(-len(pairs) // across) * down + BAR)
    sheet.heading(title)
    limit = float(grid.values.abs().max()) or 1.0
    for at, (i, t) in enumerate(pairs):
        line, column = divmod(at, across)
        left, upper = MARGIN + column * cell, top + line * down
        sheet.text(left, upper, named[at])
        upper += text_height(named[at], TEXT)
        sheet.text(left, upper, f"cosine {_number(grid.cosine[i, t])}", weight="bold")
        sheet.text(left, upper + line_height(TEXT), captions[at], SMALL)
        axes = sheet.axes(left + LEFT, top + line * down + above, wide, high)
        axes.imshow(grid.values[i, t].numpy(), cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto")
        _label(axes, grid, (wide, high))
    label = "added by two parts together (cosine)" + (", one scale for all" if len(pairs) > 1 else "")
    sheet.colour_bar(MARGIN + 0.25, sheet.height - BAR, min(2.6, width - 0.7), SIGNED, (-limit, limit), label)
    return sheet.figure


def _number(value: Float[Tensor, ""]) -> str:
    return signed(float(value), 4)


def _label(axes: Axes, grid: PartGrid, size: tuple[float, float]) -> None:
    """Numbers the layers of both sides, a line between each."""
    wide, high = size
    for blocks, cells, (along, upright), set_ticks, line in (
        (grid.row_blocks, high / len(grid.rows), (ROOM[1], ROOM[1]), axes.set_yticks, axes.axhline),
        (grid.column_blocks, wide / len(grid.columns), (ROOM[0], UPRIGHT), axes.set_xticks, axes.axvline),
    ):
        shown: list[tuple[float, str]] = []
        end = -1.0
        for start, middle, name in _places(blocks):
            if start:
                line(start - 0.5, color="0.85", lw=0.4)
            half = (along if name.isdigit() else upright) / 2
            if middle * cells - half >= end:
                shown.append((middle, name))
                end = middle * cells + half
        set_ticks([middle for middle, _ in shown], labels=[name for _, name in shown])
    for text in axes.get_xticklabels():
        text.set_rotation(0 if text.get_text().isdigit() else 90)
    axes.tick_params(length=0, pad=2)
    axes.set_ylabel(f"image {LAYER_AXIS}", size=SMALL, labelpad=1)
    axes.set_xlabel(f"text {LAYER_AXIS}", size=SMALL, labelpad=1, x=0, ha="left")


def _places(blocks: Blocks) -> list[tuple[int, float, str]]:
    """First position, middle and name of each."""
    found, start = [], 0
    for name, count in blocks:
        found.append((start, start + (count - 1) / 2, name))
        start += count
    return found
