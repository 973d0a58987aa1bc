"""Static figures of attention: the class token's weights on patches as maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from clip_lens_plugin.views.drawing.lettering import plainly_lettered

OVER_PICTURE = LinearSegmentedColormap.from_list("over picture", [(0.702, 0.345, 0.024, 0), (0.702, 0.345, 0.024, 0.9)])
"""From clear to orange."""

MOST_COLUMNS = 6
PICTURE_SIDE = 160


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
        title: over all.
        reader: whose weights they are, for example "the class token".
    """
    across = min(MOST_COLUMNS, len(names))
    down = -(-len(names) // across)
    height = 1.7 * grid_size[0] / grid_size[1]
    figure = Figure(figsize=(max(3.6, 1.85 * across), 0.7 + down * (height + 0.65)), layout="constrained")
    figure.suptitle(f"{title}: what {reader} attends to", fontsize=12)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, name, row in zip(panels, names, rows, strict=False):
        patches = row[len(prefix) :].reshape(grid_size).numpy()
        _map(axes, patches, picture)
        before = [f"{token} {float(weight):.2g}, " for token, weight in zip(prefix, row, strict=False)][:2]
        axes.set_title(f"{name}\n{''.join(before)}patch ≤ {patches.max():.2g}", fontsize=9)
    return figure


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
    height = min(14.0, max(3.4, 0.42 * n_layers * rows / columns + 0.9))
    width = min(10.0, max(2.6, 0.42 * n_heads + 0.8))
    figure = Figure(figsize=(3.2 + width, height), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3.2, width))  # type: ignore[misc]
    seen, itself = left.subplots(2, 1)
    seen.imshow(_small(picture.convert("RGB")))
    seen.set_axis_off()
    drawn = itself.imshow(patterns[..., 0].numpy(), cmap="Oranges", vmin=0, vmax=1, aspect="auto")
    itself.set_title("weight on the class token itself", fontsize=9)
    left.colorbar(drawn, ax=itself)
    maps = right.subplots()
    mosaic = np.full((n_layers, rows + 1, n_heads, columns + 1), np.nan)
    patches = patterns[..., 1:].unflatten(-1, grid_size)
    greatest = patches.amax((-2, -1), keepdim=True).clamp(min=1e-30)
    mosaic[:, :rows, :, :columns] = (patches / greatest).permute(0, 2, 1, 3).numpy()
    flat = mosaic.reshape(n_layers * (rows + 1), n_heads * (columns + 1))
    maps.imshow(flat, cmap="Oranges", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    maps.set_title("weight on each patch, full colour at the head's greatest", fontsize=9)
    for axes, down, across in ((itself, 1, 1), (maps, rows + 1, columns + 1)):
        step_down, step_across = max(1, n_layers // 12), max(1, n_heads // 8)
        layers, heads = range(0, n_layers, step_down), range(0, n_heads, step_across)
        axes.set_yticks([down * l + (down - 1) / 2 for l in layers], labels=[str(l) for l in layers])
        axes.set_xticks([across * h + (across - 1) / 2 for h in heads], labels=[str(h) for h in heads])
        axes.set_xlabel("head")
        axes.set_ylabel("layer (0 is first)")
    return figure


def _map(axes: Axes, patches: np.ndarray, picture: Image.Image | None) -> None:
    extent = (0, patches.shape[1], patches.shape[0], 0)
    if picture is not None:
        grey = 0.35 + 0.65 * np.asarray(_small(picture.convert("L")), dtype=float) / 255
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=extent)
    axes.imshow(patches, cmap=OVER_PICTURE, vmin=0, vmax=float(patches.max()) or 1.0, extent=extent)


def _small(picture: Image.Image) -> Image.Image:
    made = picture.copy()
    made.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    return made
