"""Static figure of which text leads at each patch: the photograph, and the patches on it in the colours of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.maps.leading import LeadingTexts
from clip_lens_plugin.maps.pictured import Placed
from clip_lens_plugin.views.drawing.colours import OPACITY, rgb, topics
from clip_lens_plugin.views.drawing.crops import crop_box, hides_something
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import (
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
from clip_lens_plugin.views.figures.maps.maps import FADED, GAP, WIDEST, Cell, panel_in, show_over, show_photograph

PANEL = (COLUMN - 2 * MARGIN - GAP) / 2
LEGEND = PAGE - 2 * MARGIN - 2 * (PANEL + GAP)
SWATCH = 0.11
"""Inches."""


@plainly_lettered
def leading_figure(result: LeadingTexts, placed: Sequence[Placed], title: str) -> Figure:
    """Lines of one image each: the photograph, the patches on it, and how many each text leads.

    Args:
        result: b images.
        placed: their photographs, and where the model's input lies on them.
        title: over all.
    """
    photographs = [upright_rgb(picture) for picture, _ in placed]
    boxes = [
        crop_box(photograph, placement, result.grid_size, "nearest")
        for photograph, (_, placement) in zip(photographs, placed, strict=True)
    ]
    aspects = [photograph.width / photograph.height for photograph in photographs]
    high = PANEL / min(WIDEST, max(1.0, *aspects))
    legends = [_legend(result, i) for i in range(len(photographs))]
    names = [wrapped(name, PANEL, TEXT, 3) for name in result.names]
    heights = [
        max(high, sum(text_height(label, SMALL) + 0.04 for label, _ in legend)) + text_height(name, TEXT) + 0.12
        for legend, name in zip(legends, names, strict=True)
    ]
    note = FADED if any(hides_something(box) for box in boxes) else ""
    top = MARGIN + heading_height(title, PAGE)
    sheet = Sheet(PAGE, top + sum(heights) + (line_height(SMALL) + 0.05 if note else 0))
    sheet.heading(title)
    for i, photograph in enumerate(photographs):
        below = top + text_height(names[i], TEXT) + 0.05
        axes = panel_in(sheet, Cell(MARGIN, below, (PANEL, high)), aspects[i])
        show_photograph(axes, photograph, boxes[i])
        axes.set_title(names[i], pad=2.5)
        axes = panel_in(sheet, Cell(MARGIN + PANEL + GAP, below, (PANEL, high)), aspects[i])
        show_over(axes, photograph, boxes[i], painted(result.leads[i].cpu().numpy(), len(result.texts)), "nearest")
        left = MARGIN + 2 * (PANEL + GAP)
        for label, colour in legends[i]:
            swatch = sheet.axes(left, below + 0.02, SWATCH, SWATCH)
            swatch.set_xticks([])
            swatch.set_yticks([])
            swatch.set_facecolor((colour, OPACITY) if colour else "white")
            sheet.text(left + SWATCH + 0.06, below, label, SMALL)
            below += text_height(label, SMALL) + 0.04
        top += heights[i]
    if note:
        sheet.text(MARGIN, top, note, SMALL)
    return sheet.figure


def painted(leads: Int[np.ndarray, "rows columns"], n_texts: int) -> Float[np.ndarray, "rows columns 4"]:
    """The colour of each patch, from 0 to 1, and its opacity; clear where no text leads."""
    colours = [(*(part / 255 for part in rgb(colour)), OPACITY) for colour in topics(n_texts)]
    return np.array([*colours, (0.0, 0.0, 0.0, 0.0)])[leads]


def _legend(result: LeadingTexts, image: int) -> list[tuple[str, str]]:
    """Lines for the texts that lead anywhere, each with its colour, and for none, which has no colour."""
    counts, colours = result.patches(image), topics(len(result.texts))
    room = LEGEND - SWATCH - 0.06
    led = [(f"{text}: {counts[t]}", colours[t]) for t, text in enumerate(result.texts) if counts[t]]
    return [(wrapped(label, room, SMALL, 2), colour) for label, colour in [*led, (f"none: {counts[-1]}", "")]]
