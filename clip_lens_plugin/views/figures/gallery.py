"""Static figures of images that heads write most and least for, and of an image's neighbours: panels of one height."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from clip_lens_plugin.describe.spans import HeadSpan
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import (
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

MOST_LINES = 20
MOST_IMAGES = 5
"""Lines, and images of a side, that a figure shows; the page holds the rest."""

MOST_ACROSS = 6
HIGHEST = 1.3
"""Inches of a picture."""

GAP = 0.08
LABEL = 1.75
"""Inches for a text beside its images."""

OF_IMAGE = "The image asked about is the first; over the others stands their similarity to it."
OF_TEXT = "The text asked about is the first; over the images stands what the heads add to the cosine, less its mean."
"""What the numbers over neighbours are."""

PIXELS, THUMBNAIL = 320, 112
"""Pixels of a picture's longer side, and of a square's."""


@plainly_lettered
def neighbours_figure(
    query: Image.Image | None, query_name: str, found: Sequence[dict], pictures: Mapping[int, Image.Image], title: str
) -> Figure:
    """What was asked about, and the images found in their order, all of one height.

    Args:
        query: the picture asked about; None if it was a text.
        query_name: its name; or the text.
        found: row and value of each.
        pictures: each row's picture.
        title: over all; says which heads.
    """
    shown = [None if query is None else _small(query), *(_small(pictures[row["row"]]) for row in found)]
    captions = ["" if query is None else query_name, *(signed(row["value"], 3) for row in found)]
    lines = [range(i, min(i + MOST_ACROSS, len(shown))) for i in range(0, len(shown), MOST_ACROSS)]
    aspects = [1.0 if picture is None else picture.width / picture.height for picture in shown]
    room = PAGE - 2 * MARGIN
    high = min(HIGHEST, *((room - GAP * (len(line) - 1)) / sum(aspects[i] for i in line) for line in lines))
    labels = [wrapped(each, high * aspect, SMALL, 2) for each, aspect in zip(captions, aspects, strict=True)]
    above = [max(text_height(labels[i], SMALL) for i in line) + 0.03 for line in lines]
    top = MARGIN + heading_height(title, PAGE)
    sheet = Sheet(PAGE, top + sum(above) + len(lines) * (high + GAP) + line_height(SMALL) + 0.05)
    sheet.heading(title)
    for line, room_above in zip(lines, above, strict=True):
        left, top = MARGIN, top + room_above
        for i in line:
            if (picture := shown[i]) is None:
                sheet.text(left, top, wrapped(query_name, high, TEXT, 6), TEXT)
            else:
                axes = sheet.axes(left, top, high * aspects[i], high)
                axes.imshow(picture, aspect="auto")
                axes.set_axis_off()
                axes.set_title(labels[i], size=SMALL, pad=2)
            left += high * aspects[i] + GAP
        top += high + GAP
    sheet.text(MARGIN, top, OF_IMAGE if query is not None else OF_TEXT, SMALL)
    return sheet.figure


@plainly_lettered
def gallery_figure(
    spans: Sequence[HeadSpan],
    images: pd.DataFrame,
    pictures: Mapping[int, Image.Image] | None,
    names: Mapping[int, str],
) -> Figure:
    """One line per head and text that has images: the text, its highest images, its lowest.

    Args:
        spans: texts of each head, in the order of the lines; the first :data:`MOST_LINES` texts with images are shown.
        images: layer, head, rank, side, place, row, score.
        pictures: each row's picture; None to show names in their place.
        names: each row's name.
    """
    found: dict[tuple[int, int, int], list[dict]] = {}
    for row in images.to_dict("records"):
        found.setdefault((row["layer"], row["head"], row["rank"]), []).append(row)
    every = [
        (span, rank, found[span.layer, span.head, rank])
        for span in spans
        for rank in range(1, len(span.texts) + 1)
        if (span.layer, span.head, rank) in found
    ]
    lines = every[:MOST_LINES]
    most = min(MOST_IMAGES, max([1, *images["place"].tolist()]))
    panel = min(0.7, (PAGE - LABEL - 3 * MARGIN - 0.15) / (2 * most) - 0.05)
    step = max(panel + line_height(SMALL) + 0.1, 4 * line_height(SMALL) + 0.1)
    top = MARGIN + line_height(TEXT) + 0.05
    note = f"the first {len(lines)} of {len(every)} texts" if len(lines) < len(every) else ""
    sheet = Sheet(PAGE, top + step * max(1, len(lines)) + (line_height(SMALL) + 0.05 if note else 0))
    if not lines:
        sheet.text(MARGIN, top, "no images")
        return sheet.figure
    starts = {"highest": LABEL + 2 * MARGIN, "lowest": LABEL + 2 * MARGIN + most * (panel + 0.05) + 0.15}
    for side, amount in (("highest", "most"), ("lowest", "least")):
        sheet.text(starts[side], MARGIN, f"{amount} (cosine against the mean)")
    for span, rank, rows in lines:
        sheet.text(MARGIN, top, f"layer {span.layer}, head {span.head}", SMALL, weight="bold")
        about = wrapped(span.texts[rank - 1], LABEL, SMALL, 2)
        share = span.explained_variance[rank - 1]
        caption = about if math.isnan(share) else f"{about}\nso far {100 * share:.1f} % of its variance"
        sheet.text(MARGIN, top + line_height(SMALL), caption, SMALL)
        for row in rows:
            if row["place"] > most:
                continue
            left = starts[row["side"]] + (row["place"] - 1) * (panel + 0.05)
            if pictures is None:
                sheet.text(left, top, wrapped(names[row["row"]], panel, SMALL, 3), SMALL)
            else:
                thumbnail(sheet, left, top, panel, pictures[row["row"]])
            sheet.text(left + panel / 2, top + panel + 0.02, signed(row["score"], 3), SMALL, ha="center")
        top += step
    if note:
        sheet.text(MARGIN, top, note, SMALL)
    return sheet.figure


def thumbnail(sheet: Sheet, left: float, top: float, side: float, picture: Image.Image) -> None:
    """The middle of the picture, as a square."""
    axes = sheet.axes(left, top, side, side)
    axes.imshow(ImageOps.fit(upright_rgb(picture), (THUMBNAIL, THUMBNAIL)), aspect="auto")
    axes.set_axis_off()


def _small(picture: Image.Image) -> Image.Image:
    made = upright_rgb(picture).copy()
    made.thumbnail((PIXELS, PIXELS))
    return made
