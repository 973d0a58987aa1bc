"""Saliency maps on the photograph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.maps.crop_geometry import Interpolation, Placement
from clip_lens_plugin.maps.pictured import Pictured
from clip_lens_plugin.saliency.result import SaliencyMap
from clip_lens_plugin.views.drawing.crops import crop_box
from clip_lens_plugin.views.drawing.view import View, static
from clip_lens_plugin.views.report.summaries import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def saliency_view(
    result: SaliencyMap,
    picture: Image.Image | None = None,
    placement: Placement | None = None,
    *,
    title: str | None = None,
    interpolation: Interpolation = "bilinear",
) -> View:
    """The photograph, and each text's map on it, as a figure that a paper can take.

    Each map goes from clear at its own least value to the full colour at its greatest, since methods measure in units
    of their own; both values stand under it.

    Args:
        result: of :func:`~clip_lens_plugin.saliency.mapping.saliency_map`.
        picture: the photograph, or what the model sees of it; the one that the maps were made of if not given.
        placement: where on the photograph the model's input lies; as the model's preprocessing puts it if not given.
        title: plain text; names method and image if not given.
        interpolation: of the maps as they are shown.

    Raises:
        ValueError: if there is no picture, or it cannot be what the model saw; if the placement is of a photograph of
            another size, or there is no such interpolation.
    """
    if placement is None:
        picture, placement = (result.pictured or Pictured()).placed(result.grid_size, picture)
    elif picture is None:
        raise ValueError("The placement is of a photograph: give the picture as well.")
    photograph = upright_rgb(picture)
    box = crop_box(photograph, placement, result.grid_size, interpolation)
    title = f"{result.title}: {result.name}" if title is None else title

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.maps.saliency import saliency_figure

        return saliency_figure(result, photograph, box, interpolation, title)

    described = f"Maps of {result.name} by {result.title} for: {', '.join(result.captions)}"
    return View(title, static(figure, described) + _numbers(result), figure)


def _numbers(result: SaliencyMap) -> Markup:
    rows = [
        (text, *(f"{float(number):+.4g}" for number in (each.min(), each.mean(), each.max())))
        for text, each in zip(result.captions, result.values, strict=True)
    ]
    folded = Markup("<details><summary>The numbers</summary>{}{}</details>")
    against = Markup("<p>Each text less the mean of: {}.</p>").format(", ".join(result.against))
    numbers = table(["text", "least of a patch", "mean", "greatest"], rows)
    return folded.format(numbers, against if result.against else Markup())
