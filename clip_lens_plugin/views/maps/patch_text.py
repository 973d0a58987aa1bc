"""Patch-text maps on the photograph: one to explore by head, text and patch, or several side by side as in figure 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.maps.crop_geometry import Interpolation, Placement
from clip_lens_plugin.maps.leading import CLEAR
from clip_lens_plugin.maps.patch_text import HeadTextScores, PatchTextMap
from clip_lens_plugin.maps.pictured import Pictured, all_placed
from clip_lens_plugin.plain_text import how_many, printable
from clip_lens_plugin.views.drawing.colours import over_photograph, rgb, topics
from clip_lens_plugin.views.drawing.crops import crop_box, hides_something
from clip_lens_plugin.views.drawing.encoding import floats, picture_uri
from clip_lens_plugin.views.drawing.view import View, drawn, static
from clip_lens_plugin.views.maps.map_stills import still_maps
from clip_lens_plugin.views.report.summaries import table
from clip_lens_plugin.views.words.maps import named_heads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 480
"""Longer side, in pixels, of a photograph on a page."""


def head_text_view(
    scores: HeadTextScores,
    picture: Image.Image | None = None,
    placement: Placement | None = None,
    *,
    name: str | None = None,
    interpolation: Interpolation = "nearest",
    light: bool = False,
) -> View:
    """One image to explore: point at a patch, a head or a text, and the others follow.

    A text's map can be shown alone, less another text's or the mean of the others', or all together as which text leads
    at each patch, see :meth:`~clip_lens_plugin.maps.patch_text.PatchTextMap.leading`.

    All numbers are cosines, or parts of one: the image's cosine with each text stands first, then what the chosen heads
    add to it, the other heads, and MLPs and constants. The static picture has every text's map through all heads.

    Args:
        scores: of the image, see :func:`~clip_lens_plugin.maps.patch_text.head_text_scores`.
        picture: the photograph, or what the model sees of it; the one that the scores were made of if not given.
        placement: where on the photograph the model's input lies; as the model's preprocessing puts it if not given.
        name: of the image; its file's if not given.
        interpolation: of the maps as they are shown; the numbers are those of the patches either way.
        light: where scripts do not run, show maps laid over the photograph by the page, in the place of a figure that
            takes half a second to draw; for pages of several such views, which bring their style.

    Raises:
        ValueError: if there is no picture, or it cannot be what the model saw; if the placement is of a photograph of
            another size, or there is no such interpolation.
    """
    name = scores.name if name is None else name
    if placement is None:
        picture, placement = (scores.pictured or Pictured()).placed(scores.grid_size, picture)
    elif picture is None:
        raise ValueError("The placement is of a photograph: give the picture as well.")
    picture = upright_rgb(picture)
    box = crop_box(picture, placement, scores.grid_size, interpolation)
    maps, title = scores.map(), f"Patch-text maps of {name}"

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.maps.maps import maps_figure  # matplotlib, which a light view does without.

        return maps_figure(maps, [picture], [placement], interpolation=interpolation, title=title)

    data = {
        "by_token": floats(scores.by_token),
        "cosine": [float(each) for each in scores.cosine],
        "texts": [printable(text) for text in scores.texts],
        "grid": list(scores.grid_size),
        "crop": list(box),
        "unseen": hides_something(box),
        "picture": picture_uri(picture, SIDE),
        "name": printable(name),
        "smooth": interpolation == "bilinear",
        "colours": over_photograph(),
        "topics": [rgb(colour) for colour in topics(len(scores.texts))],
        "clear": CLEAR,
    }
    described = f"Maps of {name} for {len(scores.texts)} texts, through all heads"
    still = still_maps(maps, picture, box) if light else figure
    return View(title, drawn("patch-text", data, still, described), figure)


def patch_text_view(
    maps: PatchTextMap,
    pictures: Sequence[Image.Image] | None = None,
    placements: Sequence[Placement | None] | None = None,
    *,
    marks: Sequence[str] = (),
    names: Sequence[str] | None = None,
    title: str | None = None,
    interpolation: Interpolation = "nearest",
) -> View:
    """Maps of several images and texts side by side, one row per image, as a figure that a paper can take.

    All maps are on one scale. Under each stands the image's cosine with the text, where the map knows it, and what the
    chosen heads add to it.

    Args:
        maps: b images, t texts.
        pictures: the photograph of each image, or what the model sees of it; those that the maps were made of if not
            given.
        placements: where on each photograph the model's input lies, None where the picture is that input; as the
            model's preprocessing puts it if not given.
        marks: for each text, "most similar" (a green border), "least similar" (red) or "", as in figure 6.
        names: of the images; their files' if not given.
        title: plain text; names the heads if not given.
        interpolation: of the maps as they are shown.

    Raises:
        ValueError: if there are no pictures, or one cannot be what the model saw; if pictures, placements, marks or
            names do not match the maps, or there is no such interpolation.
    """
    names = maps.names if names is None else names
    title = f"Patch-text maps, {named_heads(maps.heads)}" if title is None else title
    if placements is None:
        placed = all_placed(maps.of_each_image, maps.grid_size, pictures)
        pictures, placements = [each[0] for each in placed], [each[1] for each in placed]
    elif pictures is None:
        raise ValueError("The placements are of photographs: give the pictures as well.")

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.maps.maps import maps_figure

        return maps_figure(maps, pictures, placements, marks, names, interpolation, title=title)

    described = f"Maps of {how_many(len(pictures), 'image')} for: {', '.join(maps.texts)}"
    return View(title, static(figure, described) + _numbers(maps, names), figure)


def _numbers(maps: PatchTextMap, names: Sequence[str]) -> Markup:
    """The cosine where it is known, and what each map adds to it: patches, class token, together."""
    header = ["image", "text", "added by patches", "by the class token", "by the heads in all"]
    whole, heads = maps.cosine, named_heads(maps.heads)
    if whole is not None:
        header = ["image", "text", "cosine", f"of which by {heads}", "through patches", "through the class token"]
    rows = []
    for i in range(len(maps.values)):
        for t, text in enumerate(maps.texts):
            added = [maps.values[i, t].sum(), maps.class_token[i, t]]
            numbers = [*added, maps.scores[i, t]] if whole is None else [whole[i, t], maps.scores[i, t], *added]
            rows.append((names[i] if names else str(i), text, *(f"{float(number):+.4f}" for number in numbers)))
    return Markup("<details><summary>The numbers (cosine)</summary>{}</details>").format(table(header, rows))
