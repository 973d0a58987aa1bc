"""Patch-text maps on the photograph: one to explore by head, text and patch, or several side by side as in figure 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from clip_lens_plugin.arguments import checked_choice
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.maps.crop_geometry import Interpolation, Placement
from clip_lens_plugin.maps.patch_text import HeadTextScores, PatchTextMap
from clip_lens_plugin.maps.pictured import Pictured
from clip_lens_plugin.plain_text import one_line, printable
from clip_lens_plugin.views.drawing.colours import SIGNED
from clip_lens_plugin.views.drawing.encoding import floats, picture_uri
from clip_lens_plugin.views.drawing.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.view import View, drawn, static
from clip_lens_plugin.views.summaries import table

MOST_OF_LABEL = 80
"""Characters of a name or a text over a map; a longer one would leave no room for the map."""

SIDE = 480
"""Longer side, in pixels, of a photograph on a page."""

UNKNOWN = Pictured(None, None)
"""What maps know of their pictures that were made by hand."""

MARKS = {"most similar": "#1a9850", "least similar": "#d73027"}
"""Borders of figure 6."""


def head_text_view(
    scores: HeadTextScores,
    picture: Image.Image | None = None,
    placement: Placement | None = None,
    *,
    name: str | None = None,
    interpolation: Interpolation = "nearest",
) -> View:
    """One image to explore: point at a patch, a head or a text, and the others follow.

    Scores are in cosine units; what patches and class token add through the chosen heads is printed, with their sum and
    the image's whole cosine. The static picture has every text's map through all heads.

    Args:
        scores: of the image, see :func:`~clip_lens_plugin.maps.patch_text.head_text_scores`.
        picture: the photograph, or what the model sees of it; the one that the scores were made of if not given.
        placement: where on the photograph the model's input lies; as the model's preprocessing puts it if not given.
        name: of the image; its file's if not given.
        interpolation: of the maps as they are shown; the numbers are those of the patches either way.

    Raises:
        ValueError: if there is no picture, or it cannot be what the model saw; if the placement is of a photograph of
            another size, or there is no such interpolation.
    """
    name = scores.name if name is None else name
    if placement is None:
        pictured = scores.pictured or UNKNOWN
        picture, placement = pictured.placed(scores.grid_size, None if picture is None else [picture])[0]
    elif picture is None:
        raise ValueError("The placement is of a photograph: give the picture as well.")
    picture = upright_rgb(picture)
    box = _crop(picture, placement, scores.grid_size, interpolation)
    maps = scores.map()

    def figure() -> Figure:
        return maps_figure(maps, [picture], placements=[placement], interpolation=interpolation)

    data = {
        "by_token": floats(scores.by_token),
        "cosine": [float(each) for each in scores.cosine],
        "texts": [printable(text) for text in scores.texts],
        "grid": list(scores.grid_size),
        "crop": list(box),
        "unseen": _hides_something(box),
        "picture": picture_uri(picture, SIDE),
        "name": printable(name),
        "smooth": interpolation == "bilinear",
    }
    described = f"Maps of {name} for {len(scores.texts)} texts, through all heads"
    return View(f"Patch-text maps of {name}", drawn("patch-text", data, figure, described), figure)


def patch_text_view(
    maps: PatchTextMap,
    pictures: Sequence[Image.Image] | None = None,
    placements: Sequence[Placement | None] | None = None,
    *,
    marks: Sequence[str] = (),
    names: Sequence[str] | None = None,
    title: str = "Patch-text maps",
    interpolation: Interpolation = "nearest",
) -> View:
    """Maps of several images and texts side by side, one row per image, as a figure that a paper can take.

    Args:
        maps: b images, t texts.
        pictures: the photograph of each image, or what the model sees of it; those that the maps were made of if not
            given.
        placements: where on each photograph the model's input lies, None where the picture is that input; as the
            model's preprocessing puts it if not given.
        marks: for each text, "most similar" (a green border), "least similar" (red) or "", as in figure 6.
        names: of the images; their files' if not given.
        title: plain text.
        interpolation: of the maps as they are shown.

    Raises:
        ValueError: if there are no pictures, or one cannot be what the model saw; if pictures, placements, marks or
            names do not match the maps, or there is no such interpolation.
    """
    names = maps.names if names is None else names
    if placements is None:
        placed = (maps.pictured or UNKNOWN).placed(maps.grid_size, pictures)
        pictures, placements = [each[0] for each in placed], [each[1] for each in placed]
    elif pictures is None:
        raise ValueError("The placements are of photographs: give the pictures as well.")

    def figure() -> Figure:
        return maps_figure(maps, pictures, placements, marks, names, interpolation)

    figure()  # What does not match is refused now, not when it is shown.
    described = f"Maps of {len(pictures)} images for: {', '.join(maps.texts)}"
    return View(title, static(figure, described) + _numbers(maps, names), figure)


@plainly_lettered
def maps_figure(
    maps: PatchTextMap,
    pictures: Sequence[Image.Image],
    placements: Sequence[Placement | None],
    marks: Sequence[str] = (),
    names: Sequence[str] = (),
    interpolation: Interpolation = "nearest",
) -> Figure:
    """A row an image: the photograph, then a map for each text, all of a row on one scale."""
    rows, columns = len(maps.values), len(maps.texts)
    for what, given, expected in (("pictures", pictures, rows), ("placements", placements, rows)):
        if len(given) != expected:
            raise ValueError(f"{expected} images need as many {what}, got {len(given)}.")
    for what, given, expected in (("marks", marks, columns), ("names", names, rows)):
        if given and len(given) != expected:
            raise ValueError(f"The maps have {rows} images and {columns} texts, got {len(given)} {what}.")
    for mark in marks:
        checked_choice("A mark", mark, (*MARKS, ""))
    pictures = [upright_rgb(picture) for picture in pictures]
    figure = Figure(figsize=(2.4 * (columns + 1) + 0.6, 2.5 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns + 1, squeeze=False)
    for row in range(rows):
        picture, box = pictures[row], _crop(pictures[row], placements[row], maps.grid_size, interpolation)
        values = maps.values[row].detach().double().cpu().numpy()
        limit = float(np.abs(values).max(initial=0.0)) or 1.0
        _show_photo(grid[row, 0], picture, box, names[row] if names else "")
        for t, text in enumerate(maps.texts):
            axes = grid[row, t + 1]
            _show_map(axes, picture, box, values[t] / limit, interpolation)
            _label(axes, text if row == 0 else "", float(maps.scores[row, t]), marks[t] if marks else "")
        scale = ScalarMappable(Normalize(-limit, limit), SIGNED)
        bar = figure.colorbar(scale, ax=list(grid[row]), shrink=0.8, pad=0.01)
        bar.ax.set_title("cosine", size=8)
        bar.ax.tick_params(labelsize=8)
    return figure


def _show_photo(axes: Axes, picture: Image.Image, box: tuple[float, ...], name: str) -> None:
    axes.imshow(picture)
    if _hides_something(box):
        _shade_unseen(axes, picture, box)
    axes.set_title(one_line(name, MOST_OF_LABEL), fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def _show_map(
    axes: Axes, picture: Image.Image, box: tuple[float, ...], relative: np.ndarray, how: Interpolation
) -> None:
    width, height = picture.size
    grey = np.asarray(picture.convert("L"), dtype=float) / 255
    axes.imshow(0.25 + 0.6 * grey, cmap="gray", vmin=0, vmax=1)
    left, top, across, down = box
    painted = matplotlib.colormaps[SIGNED](Normalize(-1, 1)(relative))
    painted[..., 3] = 0.12 + 0.75 * np.abs(relative)
    edges = (left * width - 0.5, (left + across) * width - 0.5, (top + down) * height - 0.5, top * height - 0.5)
    axes.imshow(painted, extent=edges, interpolation=how)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    if _hides_something(box):
        _shade_unseen(axes, picture, box)
    axes.set_xticks([])
    axes.set_yticks([])


def _shade_unseen(axes: Axes, picture: Image.Image, box: tuple[float, ...]) -> None:
    """Hatches what lies outside the crop."""
    width, height = picture.size
    left, top, across, down = box
    style = {"facecolor": (0, 0, 0, 0.55), "edgecolor": "white", "hatch": "////", "linewidth": 0.0}
    x0, x1 = left * width - 0.5, (left + across) * width - 0.5
    y0, y1 = top * height - 0.5, (top + down) * height - 0.5
    for low, high in ((-0.5, x0), (x1, width - 0.5)):
        if high - low > 0.5:
            axes.axvspan(low, high, **style)
    for low, high in ((-0.5, y0), (y1, height - 0.5)):
        if high - low > 0.5:
            axes.axhspan(low, high, **style)


def _label(axes: Axes, text: str, score: float, mark: str) -> None:
    title = f"{one_line(text, MOST_OF_LABEL)}\n" if text else ""
    axes.set_title(title + f"{score:+.4f}" + (f" ({mark})" if mark else ""), fontsize=9)
    if mark:
        for spine in axes.spines.values():
            spine.set_edgecolor(MARKS[mark])
            spine.set_linewidth(4)


def _numbers(maps: PatchTextMap, names: Sequence[str]) -> Markup:
    """Scores of each map: patches, class token, sum."""
    rows = [
        (
            names[i] if names else str(i),
            text,
            f"{float(maps.values[i, t].sum()):+.4f}",
            f"{float(maps.class_token[i, t]):+.4f}",
            f"{float(maps.scores[i, t]):+.4f}",
        )
        for i in range(len(maps.values))
        for t, text in enumerate(maps.texts)
    ]
    header = ("image", "text", "patches", "class token", "score of the heads")
    return Markup("<details><summary>The numbers (cosine units)</summary>{}</details>").format(table(header, rows))


def _crop(
    picture: Image.Image, placement: Placement | None, grid_size: tuple[int, int], interpolation: Interpolation
) -> tuple[float, float, float, float]:
    """Left, top, width and height of all patches together as parts of the photograph."""
    checked_choice("interpolation", interpolation, get_args(Interpolation))
    if placement is None:
        return 0.0, 0.0, 1.0, 1.0
    width, height = placement.photo_size
    if picture.size != (width, height):
        raise ValueError(
            f"The placement is of a photograph of {width} x {height} pixels, the picture has "
            f"{picture.size[0]} x {picture.size[1]}. Give the photograph that was preprocessed."
        )
    boxes = placement.patch_boxes(grid_size)
    (left, top), (right, bottom) = boxes[0, 0, :2].tolist(), boxes[-1, -1, 2:].tolist()
    return left / width, top / height, (right - left) / width, (bottom - top) / height


def _hides_something(box: tuple[float, ...]) -> bool:
    left, top, width, height = box
    return left > 1e-9 or top > 1e-9 or left + width < 1 - 1e-9 or top + height < 1 - 1e-9
