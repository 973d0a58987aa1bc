"""Where layers stand, in every figure, page and table: layer 0 at the top of what goes down, at the left of an axis."""

from __future__ import annotations

import math

from matplotlib.axes import Axes

LAYER_AXIS = "layer (0 is first)"
HEAD_AXIS = "head"

ROOM = (0.19, 0.115)
"""Inches that a number needs across and down."""


def label_grid(axes: Axes, n_layers: int, n_heads: int, down: int = 1, across: int = 1) -> None:
    """Numbers the rows and columns of a picture of layers by heads, layer 0 at the top, head 0 at the left.

    Args:
        axes: what the picture was shown in.
        n_layers: rows.
        n_heads: columns.
        down: pixels of a row.
        across: pixels of a column.
    """
    wide, high = axes.get_position().size * axes.figure.get_size_inches()  # type: ignore[union-attr]
    heads = range(0, n_heads, math.ceil(ROOM[0] * n_heads / wide))
    layers = range(0, n_layers, math.ceil(ROOM[1] * n_layers / high))
    axes.set_yticks([down * layer + (down - 1) / 2 for layer in layers], labels=[str(layer) for layer in layers])
    axes.set_xticks([across * head + (across - 1) / 2 for head in heads], labels=[str(head) for head in heads])
    axes.set_ylim(n_layers * down - 0.5, -0.5)
    axes.set_ylabel(LAYER_AXIS)
    axes.set_xlabel(HEAD_AXIS)
