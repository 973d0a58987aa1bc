"""Static figures of attention: the class token's weights on patches as maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from clip_lens_plugin.views.drawing.colour_maps import WEIGHTS_OVER_PHOTOGRAPH
from clip_lens_plugin.views.drawing.colours import WEIGHTS
from clip_lens_plugin.views.drawing.layout.layers import label_grid
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import (
    BAR,
    COLUMN,
    MARGIN,
    PAGE,
    SMALL,
    Sheet,
    heading_height,
    line_height,
    wrapped,
)

MOST_COLUMNS = 6
PICTURE_SIDE = 224
TALLEST = 8.0
"""Inches of a picture of all layers, with what stands around it a page."""

OWN_SCALES = "attention weight, as a part of the map's own greatest"


@plainly_lettered
def rows_figure(
    rows: Float[Tensor, "h n"],
    names: Sequence[str],
    prefix: Sequence[str],
    picture: Image.Image | None,
    grid_size: tuple[int, int],
    title: str,
    reader: str,
) -> Figure:
    """One map per head over the picture, each with a scale of its own from 0 to its greatest patch.

    Args:
        rows: a token's weights, on the tokens before the patches first.
        names: of the heads.
        prefix: names of the tokens before the patches.
        picture: as the model sees it; shown in grey.
        grid_size: (rows, columns) of patches.
        title: over all, for example the layer.
        reader: whose weights they are, for example "the class token".
    """
    width = PAGE if len(names) > 3 else COLUMN
    across = min(MOST_COLUMNS if width == PAGE else 3, len(names))
    down = -(-len(names) // across)
    panel = (width - 2 * MARGIN - 0.1 * (across - 1)) / max(across, 3)
    high = panel * grid_size[0] / grid_size[1]
    heading = f"{title}: what {reader} attends to"
    n_lines = 1 + min(2, len(prefix)) + 1
    above = n_lines * line_height(SMALL) + 0.04
    top = MARGIN + heading_height(heading, width)
    sheet = Sheet(width, top + down * (above + high + 0.1) + BAR)
    sheet.heading(heading)
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        line, column = divmod(i, across)
        axes = sheet.axes(MARGIN + column * (panel + 0.1), top + line * (above + high + 0.1) + above, panel, high)
        patches = row[len(prefix) :].reshape(grid_size).numpy()
        _map(axes, patches, picture)
        before = [f"{token} {float(weight):.2g}" for token, weight in zip(prefix, row, strict=False)][:2]
        said = "\n".join([wrapped(name, panel, SMALL), *before, f"patch ≤ {patches.max():.2g}"])
        axes.set_title(said, size=SMALL, pad=2, linespacing=1.2)
    sheet.colour_bar(
        MARGIN + 0.1, sheet.height - BAR, min(2.6, width - 0.5), WEIGHTS_OVER_PHOTOGRAPH, (0.0, 1.0), OWN_SCALES
    )
    return sheet.figure


@plainly_lettered
def all_class_rows_figure(patterns: Float[Tensor, "l h n"], picture: Image.Image, grid_size: tuple[int, int]) -> Figure:
    """The picture, the class token's weight on itself in each head, and one map per head: rows are layers.

    Args:
        patterns: the class token's weights, on itself first.
        picture: as the model sees it.
        grid_size: (rows, columns) of patches.
    """
    n_layers, n_heads, _ = patterns.shape
    rows, columns = grid_size
    side, left = 1.7, 0.45
    wide = PAGE - side - 2 * left - 0.35 - MARGIN
    start = left + side + 0.35 + left
    # As high as its maps are, but no higher than a page.
    high = wide * n_layers * (rows + 1) / (n_heads * (columns + 1))
    wide, high = wide * min(1.0, TALLEST / high), min(high, TALLEST)
    top = 0.3
    seen_high = side * rows / columns
    itself_top = top + seen_high + 0.4
    itself_high = max(0.9, min(0.16 * n_layers, high - itself_top + top))
    bottom = max(top + high, itself_top + itself_high) + 0.38
    sheet = Sheet(PAGE, bottom + BAR)
    seen = sheet.axes(left, top, side, seen_high)
    seen.imshow(_small(picture.convert("RGB")), aspect="auto")
    seen.set_axis_off()
    seen.set_title("what the model sees", pad=3)
    itself = sheet.axes(left, itself_top, side, itself_high)
    itself.imshow(patterns[..., 0].numpy(), cmap=WEIGHTS, vmin=0, vmax=1, aspect="auto")
    itself.set_title("weight on the class token itself", pad=3)
    label_grid(itself, n_layers, n_heads)
    maps = sheet.axes(start, top, wide, high)
    mosaic = np.full((n_layers, rows + 1, n_heads, columns + 1), np.nan)
    patches = patterns[..., 1:].unflatten(-1, grid_size)
    greatest = patches.amax((-2, -1), keepdim=True).clamp(min=1e-30)
    mosaic[:, :rows, :, :columns] = (patches / greatest).permute(0, 2, 1, 3).numpy()
    flat = mosaic.reshape(n_layers * (rows + 1), n_heads * (columns + 1))
    maps.imshow(flat, cmap=WEIGHTS, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    maps.set_title("weight on each patch", pad=3)
    label_grid(maps, n_layers, n_heads, rows + 1, columns + 1)
    sheet.colour_bar(left, bottom, side, WEIGHTS, (0.0, 1.0), "attention weight")
    sheet.colour_bar(start, bottom, min(2.6, PAGE - start - 0.3), WEIGHTS, (0.0, 1.0), OWN_SCALES)
    return sheet.figure


def _map(axes: Axes, patches: np.ndarray, picture: Image.Image | None) -> None:
    extent = (0, patches.shape[1], patches.shape[0], 0)
    if picture is not None:
        grey = 0.3 + 0.6 * np.asarray(_small(picture.convert("L")), dtype=float) / 255
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto")
    greatest = float(patches.max()) or 1.0
    axes.imshow(patches, cmap=WEIGHTS_OVER_PHOTOGRAPH, vmin=0, vmax=greatest, extent=extent, aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])


def _small(picture: Image.Image) -> Image.Image:
    made = picture.copy()
    made.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    return made
