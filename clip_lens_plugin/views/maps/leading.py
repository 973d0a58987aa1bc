"""Which text leads at each patch, on the photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.maps.leading import LeadingTexts
from clip_lens_plugin.maps.pictured import all_placed
from clip_lens_plugin.plain_text import how_many
from clip_lens_plugin.views.drawing.view import View, static
from clip_lens_plugin.views.report.summaries import table
from clip_lens_plugin.views.words.maps import named_heads

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def leading_view(
    result: LeadingTexts, pictures: Sequence[Image.Image] | None = None, *, title: str | None = None
) -> View:
    """Each photograph, and on it the patches in the colours of the texts that lead there; what none leads is clear.

    Args:
        result: of :meth:`~clip_lens_plugin.maps.patch_text.PatchTextMap.leading`.
        pictures: the photograph of each image, or what the model sees of it; those that the maps were made of if not
            given.
        title: plain text; names the heads if not given.

    Raises:
        ValueError: if there are no pictures, or one cannot be what the model saw.
    """
    placed = all_placed(result.of_each_image, result.grid_size, pictures)
    title = f"Which text leads, {named_heads(result.heads)}" if title is None else title

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.maps.leading import leading_figure

        return leading_figure(result, placed, title)

    described = f"Patches of {how_many(len(placed), 'image')} where one of these texts leads: {', '.join(result.texts)}"
    return View(title, static(figure, described) + _numbers(result), figure)


def _numbers(result: LeadingTexts) -> Markup:
    """At how many patches of each image each text leads."""
    n_patches = result.grid_size[0] * result.grid_size[1]
    rows = []
    for i, name in enumerate(result.names):
        counts = result.patches(i)
        for t, text in [*enumerate(result.texts), (-1, "none")]:
            rows.append((name, text, f"{counts[t]}", f"{counts[t] / n_patches:.0%}"))
    numbers = table(["image", "text", "patches where it leads", "of all"], rows)
    return Markup("<details><summary>The numbers</summary>{}</details>").format(numbers)
