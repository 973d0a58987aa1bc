"""A static figure of neurons: a line for either side of each, its texts beside its images."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from PIL import Image

from clip_lens_plugin.higher_order.frozen_run import FROZEN
from clip_lens_plugin.retrieval.strongest import StrongestNeurons
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
from clip_lens_plugin.views.figures.gallery import thumbnail
from clip_lens_plugin.views.words.neurons import MOST_IMAGES, share_in_words, sides_of

MOST_NEURONS = 10
"""That a figure shows; the page holds the rest."""

SIGN, TEXTS = 0.18, 2.3
"""Inches for a side's sign, and for its texts."""

GAP = 0.05
PANEL = min(0.5, (PAGE - 2 * MARGIN - SIGN - TEXTS) / MOST_IMAGES - GAP)
"""Inches of a picture's side."""


@plainly_lettered
def neurons_figure(found: StrongestNeurons, pictures: Mapping[int, Image.Image] | None, title: str) -> Figure:
    """The first neurons, each with its strength, and either side of its direction on a line of its own.

    Args:
        found: the neurons.
        pictures: by position in the data set; None to show names in their place.
        title: over all.
    """
    shown, lines = found.neurons[:MOST_NEURONS], []
    for neuron in shown:
        for sign, texts, images in sides_of(neuron):
            listed = "\n".join(wrapped(f"{each.text} ({signed(each.score, 3)})", TEXTS - 0.1, SMALL) for each in texts)
            if texts or images:
                lines.append((neuron, sign, listed, images))
    some = f"The first {len(shown)} of {len(found)} neurons; " if len(shown) < len(found) else ""
    note = f"{some}{FROZEN}."
    high = [max(PANEL if images else 0.0, text_height(listed, SMALL)) + GAP for _, _, listed, images in lines]
    top = MARGIN + heading_height(title, PAGE)
    heads = len(shown) * (line_height(TEXT) + 2 * GAP)
    sheet = Sheet(PAGE, top + heads + sum(high) + line_height(SMALL) + MARGIN)
    sheet.heading(title)
    before = None
    for (neuron, sign, listed, images), step in zip(lines, high, strict=True):
        if neuron is not before:
            about = f"Neuron {neuron.neuron}: {neuron.strength:.1e} cosine, {share_in_words(neuron)}"
            sheet.text(MARGIN, top + GAP, about, TEXT, weight="bold")
            top, before = top + line_height(TEXT) + 2 * GAP, neuron
        sheet.text(MARGIN, top, sign, TEXT)
        sheet.text(MARGIN + SIGN, top, listed, SMALL)
        for place, image in enumerate(images):
            left = MARGIN + SIGN + TEXTS + place * (PANEL + GAP)
            if pictures is None:
                sheet.text(left, top, wrapped(image.name, PANEL, SMALL, 3), SMALL)
            else:
                thumbnail(sheet, left, top, PANEL, pictures[image.position])
        top += step
    sheet.text(MARGIN, top, note, SMALL)
    return sheet.figure
