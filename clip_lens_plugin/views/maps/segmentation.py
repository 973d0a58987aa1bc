"""Segmentation scores: a table with the best in bold, and the maps of a few images over their masks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool
from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.plain_text import printable
from clip_lens_plugin.segmentation.overlays import Overlay
from clip_lens_plugin.segmentation.result import SegmentationScores, per_cent
from clip_lens_plugin.views.drawing.encoding import picture_uri, png_uri
from clip_lens_plugin.views.drawing.templates import TEMPLATES
from clip_lens_plugin.views.drawing.view import View
from clip_lens_plugin.views.maps.map_stills import Backdrop
from clip_lens_plugin.views.words.segmentation import (
    LEADING,
    about,
    headings,
    lines_of,
    notes,
    precision_of,
    shown_kinds,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OUTLINED_SIDE = 220
"""Longer side, in pixels, of the picture of an outline."""


def segmentation_view(scores: SegmentationScores) -> View:
    """The table of all kinds of maps, what is best, and a grid of overlays: a row per image, a column per method.

    Args:
        scores: of :func:`~clip_lens_plugin.segmentation_scores`.
    """
    shown = shown_kinds(scores)
    backdrops = [Backdrop.of(each.picture, each.box, fades=True) for each in scores.overlays]
    body = TEMPLATES.get_template("segmentation.html.j2").render(
        about=about(scores),
        headings=headings(scores, scores.kinds[scores.reference]),
        lines=lines_of(scores),
        verdicts=scores.verdicts(),
        notes=notes(scores),
        style=Markup().join(each.style for each in {each.name: each for each in backdrops}.values()),
        columns=[scores.kinds[label] for label in shown],
        contrasted=any(label.endswith(", contrast") for label in shown),
        rows=[_row(scores, *pair, shown) for pair in zip(scores.overlays, backdrops, strict=True)],
    )

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.maps.segmentation import segmentation_figure

        return segmentation_figure(scores, shown)

    return View(f"Segmentation, {scores.model_name}", Markup(body), figure)


def _row(scores: SegmentationScores, overlay: Overlay, behind: Backdrop, shown: list[str]) -> dict[str, Any]:
    outline = Markup('<img class="cl-outline" alt="" src="{}">').format(png_uri(outlined(overlay.mask)))
    values = [precision_of(scores, label, overlay) for label in shown]
    cells = [
        {
            "map": behind.under(overlay.maps[label], printable(f"{scores.kinds[label]} for {overlay.text}"), outline),
            "value": per_cent(LEADING, value),
            "best": value == np.nanmax([*values, -1.0]),
        }
        for label, value in zip(shown, values, strict=True)
    ]
    picture = Markup('<div class="cl-photo" style="{}"><img alt="{}" src="{}">{}</div>').format(
        behind.shape, printable(overlay.name), picture_uri(overlay.picture, OUTLINED_SIDE), outline
    )
    return {"name": overlay.name, "text": overlay.text, "picture": picture, "cells": cells}


def outlined(mask: Bool[np.ndarray, "height width"]) -> bytes:
    """A PNG of the mask's edge, white within and black without, clear elsewhere."""
    scale = OUTLINED_SIDE / max(mask.shape)
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    large = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)).astype(bool)
    painted = np.zeros((*large.shape, 4), dtype=np.uint8)
    painted[_grown(large) & ~large] = (0, 0, 0, 255)
    painted[large & _grown(~large)] = (255, 255, 255, 255)
    buffer = io.BytesIO()
    Image.fromarray(painted).save(buffer, "PNG")
    return buffer.getvalue()


def _grown(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The mask and the pixels around it."""
    wide = np.pad(mask, 1)
    height, width = mask.shape
    found = np.zeros_like(mask)
    for down in range(3):
        for across in range(3):
            found |= wide[down : down + height, across : across + width]
    return found
