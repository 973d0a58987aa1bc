"""The static figure of sparse codes: each image beside its words as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from PIL import Image

from clip_lens_plugin.describe.sparse_result import SparseText
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.views.drawing.colours import ADDS, TAKES
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import MARGIN, PAGE, SMALL, TEXT, Sheet, text_height, wrapped

MOST_PANELS, MOST_BARS = 12, 8
"""A picture larger than this is not read; the page holds the rest."""

PICTURE, NAMES, NUMBERS = 0.85, 1.3, 0.36
"""Inches of a picture's longer side, of the words, and of their weights."""

STEP, PIXELS = 0.17, 320


@plainly_lettered
def sparse_figure(
    result: SparseText, words: Mapping[int, Sequence[tuple[str, float]]], pictures: Mapping[int, Image.Image]
) -> Figure:
    """Two panels side by side, each a picture and its words; all bars have one scale.

    Args:
        result: what is shown.
        words: of each row, with their weights.
        pictures: of rows that have one.
    """
    rows = list(words)[:MOST_PANELS]
    across = min(2, len(rows))
    down, each = -(-len(rows) // across), (PAGE - MARGIN) / across
    beside = PICTURE + 0.08 if any(row in pictures for row in rows) else 0.0
    bars = max(1, min(MOST_BARS, max(len(words[row]) for row in rows)))
    high = max(STEP * bars, PICTURE if beside else 0.0)
    more = f" The first {len(rows)} of {len(result)}." if len(rows) < len(result) else ""
    caption = wrapped(f"Weights of words: {result.about}.{more}", PAGE - 2 * MARGIN, SMALL, 3)
    start = MARGIN + text_height(caption, SMALL) + 0.06
    heading = text_height("x", TEXT) + 0.04
    sheet = Sheet(PAGE, start + down * (heading + high + 0.14) + MARGIN)
    sheet.text(MARGIN, MARGIN, caption, SMALL)
    greatest = max((abs(weight) for row in rows for _, weight in words[row]), default=1.0)
    both = result.image_mean is None
    for at, row in enumerate(rows):
        line, column = divmod(at, across)
        left, top = MARGIN + column * each, start + line * (heading + high + 0.14)
        sheet.text(left, top, wrapped(result.names[row], each - 2 * MARGIN, TEXT), TEXT)
        top += heading
        if row in pictures:
            _show_picture(sheet, pictures[row], left, top)
        left += beside
        shown_words = words[row][:MOST_BARS]
        if not shown_words:
            sheet.text(left, top, "no word is worth its penalty", SMALL)
            continue
        width = each - beside - NAMES - NUMBERS - 2 * MARGIN
        axes = sheet.axes(left + NAMES, top, width, STEP * len(shown_words))
        weights = [weight for _, weight in shown_words]
        axes.barh(range(len(weights)), weights, height=0.7, color=[ADDS if each > 0 else TAKES for each in weights])
        axes.axvline(0, color="0.3", lw=0.6)
        axes.set_xlim(-1.02 * greatest if both else 0, 1.02 * greatest)
        axes.set_ylim(len(weights) - 0.5, -0.5)
        axes.axis("off")
        for place, (text, weight) in enumerate(shown_words):
            middle = top + STEP * (place + 0.5)
            sheet.text(left, middle, wrapped(text, NAMES - 0.06, SMALL), SMALL, va="center")
            sheet.text(left + NAMES + width + NUMBERS, middle, f"{weight:.2f}", SMALL, va="center", ha="right")
    return sheet.figure


def _show_picture(sheet: Sheet, picture: Image.Image, left: float, top: float) -> None:
    small = upright_rgb(picture).copy()
    small.thumbnail((PIXELS, PIXELS))
    scale = PICTURE / max(small.size)
    axes = sheet.axes(left, top, small.width * scale, small.height * scale)
    axes.imshow(small, aspect="auto")
    axes.axis("off")
