"""Static figures of words and patches: the photograph with the patches, and the coloured words beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.maps.crop_geometry import Interpolation, Placement
from clip_lens_plugin.views.drawing.colour_maps import SIGNED_OVER_PHOTOGRAPH
from clip_lens_plugin.views.drawing.crops import Box, crop_box, hides_something
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import (
    BAR,
    MARGIN,
    PAGE,
    SMALL,
    TEXT,
    Sheet,
    heading_height,
    line_height,
    text_height,
    text_width,
    wrapped,
)
from clip_lens_plugin.views.drawing.numbers import places_for, signed
from clip_lens_plugin.views.figures.maps.maps import FADED, Cell, panel_in, show_map
from clip_lens_plugin.views.maps.word_maps import WordMap
from clip_lens_plugin.views.words.maps import ADDED

PANEL = 2.0
"""Inches of a photograph's longer side."""

SIDE = MARGIN + PANEL + 0.15
"""Where what stands beside it begins."""

ROOM = PAGE - SIDE - MARGIN
PAD, BETWEEN = 0.05, 0.05
"""Inches within the box of a word, and from one to the next."""

BOX = line_height(TEXT) + line_height(SMALL) + PAD
"""Inches that the box of a word is high."""


@dataclass(frozen=True)
class WordBox:
    """Where a word stands, in inches from the upper left corner of the words."""

    left: float
    top: float
    width: float
    word: str
    number: str
    value: float
    nothing: bool


@dataclass(frozen=True)
class Block:
    """One image with one text.

    Attributes:
        shown: what is shown of them.
        picture: the photograph; None where there is none.
        box: where all patches lie on it.
    """

    shown: WordMap
    picture: Image.Image | None
    box: Box

    @cached_property
    def words(self) -> list[WordBox]:
        """The words, where they stand."""
        return word_boxes(self.shown)

    @cached_property
    def name(self) -> str:
        """Of the image, on the lines that it needs."""
        return wrapped(self.shown.image, PANEL, TEXT, 2)

    @cached_property
    def lines_above(self) -> list[tuple[str, float, str]]:
        """Lines over the words: text, size and weight of each."""
        each = self.shown
        parts = [f"of which by patches and words, all heads {signed(float(each.of_patches.sum()), 4)}"]
        parts += [f"by {each.prefix} and words {signed(each.of_prefix, 4)}"] if each.prefix else []
        parts.append(f"by MLPs and constants, of image or text {signed(each.rest, 4)}")
        lines = [(wrapped(f"“{each.text}”", ROOM, TEXT, 3), TEXT, "normal")]
        lines.append((f"cosine {signed(each.cosine, 4)}", TEXT, "bold"))
        return lines + [(line, SMALL, "normal") for line in parts]

    @property
    def aspect(self) -> float:
        """Width by height of the photograph, or of the patches."""
        wide, high = self.shown.grid_size[::-1] if self.picture is None else self.picture.size
        return wide / high

    @property
    def panel(self) -> Cell:
        """Where the photograph stands, below the upper left corner of the block."""
        return Cell(MARGIN, text_height(self.name, TEXT) + 0.03, (PANEL, PANEL / max(1.0, self.aspect)))

    @property
    def words_top(self) -> float:
        """Where the words begin, below the upper edge of the block."""
        return sum(text_height(text, size) for text, size, _ in self.lines_above) + 0.06

    @property
    def height(self) -> float:
        """In inches, with the room to the next."""
        return max(self.words_top + self.words[-1].top + BOX, self.panel.top + self.panel.size[1]) + 0.15


@plainly_lettered
def words_figure(
    maps: Sequence[Sequence[WordMap]],
    placed: Sequence[tuple[Image.Image | None, Placement | None]],
    interpolation: Interpolation,
    *,
    title: str,
) -> Figure:
    """One image with one text after another, all on one scale for patches and one for words.

    Args:
        maps: for each image, and each text.
        placed: each image's picture, if it is known, and where the model's input lies on it.
        interpolation: of the maps of patches.
        title: over all.
    """
    blocks = []
    for of_image, (picture, placement) in zip(maps, placed, strict=True):
        known = None if picture is None else upright_rgb(picture)
        box = crop_box(known or of_image[0].blank(), placement, of_image[0].grid_size, interpolation)
        blocks += [Block(each, known, box) for each in of_image]
    top = MARGIN + heading_height(title, PAGE)
    bottom = top + sum(block.height for block in blocks)
    note = FADED if any(hides_something(block.box) for block in blocks) else ""
    sheet = Sheet(PAGE, bottom + BAR + 0.04 + (line_height(SMALL) + 0.03 if note else 0))
    sheet.heading(title)
    of_patch = max(float(block.shown.by_patch.abs().max()) for block in blocks) or 1.0
    of_word = max(abs(value) for block in blocks for value in block.shown.by_word) or 1.0
    for block in blocks:
        _show_patches(sheet, block, top, of_patch, interpolation)
        at = top
        for text, size, weight in block.lines_above:
            sheet.text(SIDE, at, text, size, weight=weight)
            at += text_height(text, size)
        _show_words(sheet, block.words, top + block.words_top, of_word)
        top += block.height
    several = ", one scale for all" if len(blocks) > 1 else ""
    for left, limit, label in (
        (MARGIN + 0.25, of_patch, ADDED),
        (PAGE / 2 + 0.25, of_word, "added by a word (cosine)"),
    ):
        sheet.colour_bar(left, bottom, 2.6, SIGNED_OVER_PHOTOGRAPH, (-limit, limit), label + several)
    if note:
        sheet.text(MARGIN, bottom + BAR + 0.03, note, SMALL)
    return sheet.figure


def word_boxes(each: WordMap) -> list[WordBox]:
    """The words one after another, on as many lines as they need."""
    places = places_for(max(abs(value) for value in each.by_word))
    found: list[WordBox] = []
    left = top = 0.0
    for word, value, nothing in zip(each.letters, each.by_word, each.nothing, strict=True):
        word = wrapped(word, ROOM - 2 * PAD, TEXT)
        number = "0" if nothing else signed(value, places)
        width = max(text_width(word, TEXT), text_width(number, SMALL)) + 2 * PAD
        if left and left + width > ROOM:
            left, top = 0.0, top + BOX + BETWEEN
        found.append(WordBox(left, top, width, word, number, value, nothing))
        left += width + BETWEEN
    return found


def _show_patches(sheet: Sheet, block: Block, top: float, limit: float, how: Interpolation) -> None:
    sheet.text(MARGIN, top, block.name)
    place = block.panel
    axes = panel_in(sheet, replace(place, top=top + place.top), block.aspect)
    relative = block.shown.by_patch.numpy() / limit
    if block.picture is None:
        axes.imshow(SIGNED_OVER_PHOTOGRAPH((relative + 1) / 2), interpolation=how, aspect="auto")
    else:
        show_map(axes, block.picture, block.box, relative, how)


def _show_words(sheet: Sheet, boxes: Sequence[WordBox], top: float, limit: float) -> None:
    height = boxes[-1].top + BOX
    axes = sheet.axes(SIDE, top, ROOM, height)
    axes.set_xlim(0, ROOM)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    for box in boxes:
        face = "0.93" if box.nothing else SIGNED_OVER_PHOTOGRAPH((box.value / limit + 1) / 2)
        edge = {"edgecolor": "0.6", "linewidth": 0.5, "linestyle": ":" if box.nothing else "-"}
        axes.add_patch(Rectangle((box.left, box.top), box.width, BOX, facecolor=face, clip_on=False, **edge))
        middle, ink = box.left + box.width / 2, "0.35" if box.nothing else "black"
        axes.text(middle, box.top + PAD / 2, box.word, ha="center", va="top", size=TEXT, color=ink)
        below = box.top + PAD / 2 + line_height(TEXT)
        axes.text(middle, below, box.number, ha="center", va="top", size=SMALL, color=ink)
