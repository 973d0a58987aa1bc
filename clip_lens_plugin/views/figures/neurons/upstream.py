"""Static figures of what feeds a head: a heat map of sources by layer, and a tree as indented bars."""

from __future__ import annotations

from matplotlib.figure import Figure

from clip_lens_plugin.higher_order.frozen_run import FROZEN
from clip_lens_plugin.higher_order.tree import UpstreamTree
from clip_lens_plugin.views.drawing.colours import ADDS, SIGNED, TAKES
from clip_lens_plugin.views.drawing.layout.layers import LAYER_AXIS
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
from clip_lens_plugin.views.drawing.numbers import places_for, signed
from clip_lens_plugin.views.words.upstream import SourceGrid, in_words, level_limits

LEFT, BELOW = 0.5, 0.85
"""Inches for the layers' numbers, and for the names of columns."""

CELL = 0.28
"""Most inches of a cell's side."""

STEP, INDENT, NAMES, VALUES = 0.17, 0.14, 2.3, 0.75
"""Inches of a line of the tree, of a level, of names and of numbers."""


@plainly_lettered
def source_figure(grid: SourceGrid) -> Figure:
    """Layers down, heads, MLP and biases across; the embedding and the constants in words."""
    layers, columns = grid.values.shape
    width = COLUMN if columns <= 11 else PAGE
    side = min(CELL, (width - LEFT - 2 * MARGIN) / columns)
    beside = "; ".join(f"{name} {signed(value, grid.places)}" for name, value in grid.beside.items())
    said = wrapped(f"{beside}. {FROZEN.capitalize()}.", width - 2 * MARGIN, SMALL, 4)
    top = MARGIN + heading_height(grid.title, width)
    below = top + max(layers, 1) * side
    sheet = Sheet(width, below + BELOW + text_height(said, SMALL) + 0.06 + BAR)
    sheet.heading(grid.title)
    limit = float(grid.values.abs().max()) if layers else 1.0
    if layers:
        axes = sheet.axes(LEFT, top, columns * side, layers * side)
        axes.imshow(grid.values.numpy(), cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto")
        axes.set_yticks(range(layers), labels=[str(layer) for layer in range(layers)])
        every = 1 if side > 0.17 else 2
        shown = [i for i, name in enumerate(grid.columns) if not name.isdigit() or i % every == 0]
        axes.set_xticks(shown, labels=[grid.columns[i] for i in shown])
        for text in axes.get_xticklabels():
            text.set_rotation(0 if text.get_text().isdigit() else 90)
        axes.tick_params(length=0, pad=2)
        axes.set_ylabel(LAYER_AXIS, size=SMALL, labelpad=1)
        axes.set_xlabel("head", size=SMALL, labelpad=-30, x=0, ha="left")
        axes.axvline(columns - 3.5, color="0.6", lw=0.6)
    sheet.text(MARGIN, below + BELOW, said, SMALL)
    at = below + BELOW + text_height(said, SMALL) + 0.06
    sheet.colour_bar(MARGIN + 0.25, at, min(2.6, width - 0.7), SIGNED, (-limit, limit), grid.unit)
    return sheet.figure


@plainly_lettered
def tree_figure(found: UpstreamTree, *, title: str) -> Figure:
    """A line for each node, indented by its depth, with a bar from the middle to either side."""
    lines = list(found.root.walk())
    limits, places = level_limits(found), places_for(abs(found.root.value))
    said = wrapped(
        f"{FROZEN.capitalize()}. Each level sums to its parent; its bars are on one scale.", PAGE - 2 * MARGIN, SMALL, 2
    )
    top = MARGIN + heading_height(title, PAGE)
    sheet = Sheet(PAGE, top + STEP * len(lines) + text_height(said, SMALL) + 0.14)
    sheet.heading(title)
    bars = sheet.axes(MARGIN + NAMES, top, PAGE - NAMES - VALUES - 2 * MARGIN, STEP * len(lines), frameon=False)
    bars.set_xlim(-1, 1)
    bars.set_ylim(len(lines) - 0.5, -0.5)
    bars.set_xticks([])
    bars.set_yticks([])
    bars.axvline(0, color="0.5", lw=0.6)
    for row, (depth, _, node) in enumerate(lines):
        at = top + STEP * row + (STEP - line_height(TEXT)) / 2
        name = wrapped(in_words(node.label), NAMES - INDENT * depth, TEXT)
        sheet.text(MARGIN + INDENT * depth, at, name, weight="bold" if depth == 0 else "normal")
        sheet.text(PAGE - MARGIN, at, signed(node.value, places), ha="right")
        bars.barh([row], [node.value / limits[depth]], 0.6, color=ADDS if node.value > 0 else TAKES)
    sheet.text(MARGIN, top + STEP * len(lines) + 0.06, said, SMALL)
    return sheet.figure
