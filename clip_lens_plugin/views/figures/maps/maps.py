"""Static figures of patch-text maps: the photograph, and a map per text on it, all on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from clip_lens_plugin.arguments import checked_choice
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.maps.crop_geometry import Interpolation, Placement
from clip_lens_plugin.maps.patch_text import PatchTextMap
from clip_lens_plugin.views.drawing.colour_maps import SIGNED_OVER_PHOTOGRAPH
from clip_lens_plugin.views.drawing.crops import Box, crop_box, hides_something
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
from clip_lens_plugin.views.words.maps import ADDED, greatest, named_heads

MARKS = {"most similar": "#1a9850", "least similar": "#d73027"}
"""Borders of figure 6."""

FADED = "Faded: cropped away, not seen by the model."

MOST_ACROSS = 4
"""Maps beside a photograph; more texts go on in the next line."""

WIDEST = 2.0
"""Width by height of the widest panel; a wider photograph is shown lower than the others."""


GAP = 0.1
LONGER_SIDE = 640
"""Pixels of a photograph; more are not seen at the size of a figure."""


@dataclass(frozen=True)
class Cell:
    """Where one photograph is shown, and what stands above and below it.

    Attributes:
        left, top: of the room for the panel, in inches.
        size: its width and height.
    """

    left: float
    top: float
    size: tuple[float, float]


@plainly_lettered
def maps_figure(
    maps: PatchTextMap,
    pictures: Sequence[Image.Image],
    placements: Sequence[Placement | None],
    marks: Sequence[str] = (),
    names: Sequence[str] = (),
    interpolation: Interpolation = "nearest",
    *,
    title: str = "",
) -> Figure:
    """Lines of one image each: the photograph, then a map for each text, all maps on one scale.

    Args:
        maps: b images, t texts.
        pictures, placements, marks, names, interpolation: see
            :func:`~clip_lens_plugin.views.maps.patch_text.patch_text_view`.
        title: over all; nothing if empty.
    """
    _check_matches(maps, pictures, placements, marks, names)
    photographs = [upright_rgb(picture) for picture in pictures]
    boxes = [crop_box(*pair, maps.grid_size, interpolation) for pair in zip(photographs, placements, strict=True)]
    rows, n_texts = len(maps.values), len(maps.texts)
    across = min(n_texts, MOST_ACROSS)
    lines = -(-n_texts // across)
    width = PAGE if across > 1 else COLUMN
    panel = (width - 2 * MARGIN - GAP * across) / (across + 1)
    aspects = [photograph.width / photograph.height for photograph in photographs]
    high = panel / min(WIDEST, max(1.0, *aspects))
    texts = [wrapped(text, panel, TEXT, 3) for text in maps.texts]
    captions = [wrapped(name, panel, TEXT, 3) for name in names] or [""] * rows
    below = [[_below(maps, row, t, panel, marks) for t in range(n_texts)] for row in range(rows)]
    lowest = max(sum(line_height(size) for _, size, _, _ in each) for line in below for each in line) + 0.08
    top = MARGIN + heading_height(title, width)
    places: dict[tuple[int, int], Cell] = {}
    for row in range(rows):
        for line in range(lines):
            shown = range(line * across, min(n_texts, (line + 1) * across))
            above = [texts[t] for t in shown] if row == 0 or lines > 1 else []
            above += [captions[row]] if line == 0 else []
            top += max(text_height(text, TEXT) for text in [*above, ""]) + 0.03
            for column, t in enumerate([-1, *shown] if line == 0 else [None, *shown]):
                if t is not None:
                    places[row, t] = Cell(MARGIN + column * (panel + GAP), top, (panel, high))
            top += high + lowest
    note = FADED if any(hides_something(box) for box in boxes) else ""
    sheet = Sheet(width, top + BAR + 0.04 + (line_height(SMALL) + 0.03 if note else 0))
    sheet.heading(title)
    limit = greatest(maps)
    for (row, t), cell in places.items():
        axes = panel_in(sheet, cell, aspects[row])
        if t < 0:
            show_photograph(axes, photographs[row], boxes[row])
            axes.set_title(captions[row], pad=2.5)
            continue
        values = maps.values[row, t].detach().double().cpu().numpy()
        show_map(axes, photographs[row], boxes[row], values / limit, interpolation)
        axes.set_title(texts[t] if row == 0 or lines > 1 else "", pad=2.5)
        tell_below(axes, below[row][t])
        if marks and marks[t]:
            for spine in axes.spines.values():
                spine.set_edgecolor(MARKS[marks[t]])
                spine.set_linewidth(2.5)
    several = rows * n_texts > 1
    label = ADDED + (", one scale for all maps" if several else "")
    sheet.colour_bar(MARGIN + 0.25, top, min(2.6, width - 0.9), SIGNED_OVER_PHOTOGRAPH, (-limit, limit), label)
    if note:
        sheet.text(MARGIN, top + BAR + 0.03, note, SMALL)
    return sheet.figure


def _check_matches(
    maps: PatchTextMap,
    pictures: Sequence[Image.Image],
    placements: Sequence[Placement | None],
    marks: Sequence[str],
    names: Sequence[str],
) -> None:
    rows, columns = len(maps.values), len(maps.texts)
    for what, given, expected in (("pictures", pictures, rows), ("placements", placements, rows)):
        if len(given) != expected:
            raise ValueError(f"{expected} images need as many {what}, got {len(given)}.")
    for what, given, expected in (("marks", marks, columns), ("names", names, rows)):
        if given and len(given) != expected:
            raise ValueError(f"The maps have {rows} images and {columns} texts, got {len(given)} {what}.")
    for mark in marks:
        checked_choice("A mark", mark, (*MARKS, ""))


def _below(
    maps: PatchTextMap, row: int, t: int, room: float, marks: Sequence[str]
) -> list[tuple[str, float, str, str]]:
    """Lines under a map: text, size, weight and colour of each."""
    added = signed(float(maps.scores[row, t]), 4)
    found: list[tuple[str, float, str, str]] = []
    if maps.cosine is None:
        sentence = f"added by the heads {added}"
    else:
        found.append((f"cosine {signed(float(maps.cosine[row, t]), 4)}", TEXT, "bold", "black"))
        sentence = f"of which by {named_heads(maps.heads)} {added}"
    found += [(line, SMALL, "normal", "black") for line in wrapped(sentence, room, SMALL, 4).split("\n")]
    if marks and marks[t]:
        found.append((marks[t], SMALL, "bold", MARKS[marks[t]]))
    return found


def panel_in(sheet: Sheet, cell: Cell, aspect: float) -> Axes:
    """Axes as large as the photograph is in the room it has, in its middle."""
    wide, high = cell.size
    width, height = min(wide, high * aspect), min(high, wide / aspect)
    axes = sheet.axes(cell.left + (wide - width) / 2, cell.top + (high - height) / 2, width, height)
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def tell_below(axes: Axes, lines: Sequence[tuple[str, float, str, str]]) -> None:
    """Writes lines under a panel: text, size, weight and colour of each."""
    offset = -0.04
    for text, size, weight, colour in lines:
        axes.annotate(
            text,
            (0.5, 0),
            (0, 72 * offset),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="top",
            size=size,
            weight=weight,
            color=colour,
            annotation_clip=False,
        )
        offset -= line_height(size)


def show_photograph(axes: Axes, picture: Image.Image, box: Box) -> None:
    """Shows the photograph itself, faded where the model does not see it."""
    axes.imshow(_small(picture), extent=_whole(picture), aspect="auto")
    if hides_something(box):
        _fade_unseen(axes, picture, box)


def show_map(axes: Axes, picture: Image.Image, box: Box, relative: np.ndarray, how: Interpolation) -> None:
    """Shows a map, its values from −1 to 1, over the grey photograph."""
    show_over(axes, picture, box, SIGNED_OVER_PHOTOGRAPH((relative + 1) / 2), how)


def show_over(axes: Axes, picture: Image.Image, box: Box, painted: np.ndarray, how: Interpolation) -> None:
    """Shows colours of patches [rows, columns, 4], of which the last is opacity, over the grey photograph."""
    width, height = picture.size
    grey = 0.3 + 0.6 * np.asarray(_small(picture).convert("L"), dtype=float) / 255
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=_whole(picture), aspect="auto")
    left, top, across, down = box
    edges = (left * width - 0.5, (left + across) * width - 0.5, (top + down) * height - 0.5, top * height - 0.5)
    axes.imshow(painted, extent=edges, interpolation=how, aspect="auto")
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    if hides_something(box):
        _fade_unseen(axes, picture, box)


def _small(picture: Image.Image) -> Image.Image:
    made = picture.copy()
    made.thumbnail((LONGER_SIDE, LONGER_SIDE))
    return made


def _whole(picture: Image.Image) -> tuple[float, float, float, float]:
    return -0.5, picture.width - 0.5, picture.height - 0.5, -0.5


def _fade_unseen(axes: Axes, picture: Image.Image, box: Box) -> None:
    """Fades what lies outside the crop to white."""
    width, height = picture.size
    left, top, across, down = box
    style = {"facecolor": (1, 1, 1, 0.7), "linewidth": 0.0}
    x0, x1 = left * width - 0.5, (left + across) * width - 0.5
    y0, y1 = top * height - 0.5, (top + down) * height - 0.5
    for low, high in ((-0.5, x0), (x1, width - 0.5)):
        if high - low > 0.5:
            axes.axvspan(low, high, **style)
    for low, high in ((-0.5, y0), (y1, height - 0.5)):
        if high - low > 0.5:
            axes.axhspan(low, high, **style)
