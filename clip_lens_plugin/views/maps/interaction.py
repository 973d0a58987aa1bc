"""Images with texts: words and patches coloured by what they add to the cosine; or layers, or heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.arguments import checked_choice, checked_indices
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.interactions.interacting import Interaction
from clip_lens_plugin.maps.crop_geometry import Geometry, Interpolation, Placement
from clip_lens_plugin.maps.pictured import Pictured, all_placed
from clip_lens_plugin.plain_text import printable
from clip_lens_plugin.views.drawing.colours import over_photograph
from clip_lens_plugin.views.drawing.crops import crop_box, hides_something
from clip_lens_plugin.views.drawing.encoding import floats, picture_uri
from clip_lens_plugin.views.drawing.view import View, drawn, static
from clip_lens_plugin.views.maps.patch_text import SIDE
from clip_lens_plugin.views.maps.word_maps import word_maps
from clip_lens_plugin.views.maps.word_stills import still_words
from clip_lens_plugin.views.report.part_grids import part_grid
from clip_lens_plugin.views.report.summaries import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Of = Literal["words", "layers", "heads"]

FIRST, MOST = 4, 8
"""Images, and texts, that are shown where none are chosen, which is said; and that can be chosen."""

GREATEST = 12
"""Pairs of parts that are listed with their numbers."""


def interaction_view(
    found: Interaction,
    pictures: Sequence[Image.Image] | None = None,
    *,
    of: Of = "words",
    images: Any = None,
    texts: Any = None,
    interpolation: Interpolation = "nearest",
) -> View:
    """The parts of the cosine of images with texts: patches and words on the photograph, or layers, or heads.

    With words, an explorer for each image: look at a word and see its patches, at a patch and see its words, by mouse
    or by keyboard. All numbers are parts of the cosine, which stands first; then what patches and words add to it
    through all heads of both towers, what the tokens before the patches do, and the rest. The static picture has each
    image with each text, on one scale.

    Args:
        found: see :func:`~clip_lens_plugin.interactions.interacting.interaction`.
        pictures: the photograph of each image, or what the model sees of it; those that were given to ``interaction``
            if not given. Pixels have none, and are shown without; so are pictures whose preprocessing has a step
            that cannot be followed.
        of: what is shown: "words", with patches; "layers" or "heads", a heat map of the image's by the text's.
        images, texts: positions of those to show, at most 8 of each; the first four if not given.
        interpolation: of the maps of patches as they are shown.

    Raises:
        ValueError: if there are more images or texts, or another number of pictures; if a picture cannot be what the
            model saw, or no words or tokens are known; or see :meth:`Interaction.layers`.
        IndexError: if there is no such image or text.
    """
    checked_choice("of", of, get_args(Of))
    if pictures is not None and len(pictures) != len(found.images):
        raise ValueError(f"{len(found.images)} images need as many pictures, got {len(pictures)}.")
    rows, columns = _shown("image", images, len(found.images)), _shown("text", texts, len(found.texts))
    chosen = replace(found, images=found.images.select(rows), texts=found.texts.select(columns))
    counts = (len(rows), len(found.images), "images"), (len(columns), len(found.texts), "texts")
    left_out = Markup().join(
        Markup('<p class="cl-soft">The first {} of {} {}; view({}=[...]) shows others.</p>').format(
            n, whole, name, name
        )
        for (n, whole, name), given in zip(counts, (images, texts), strict=True)
        if n < whole and given is None
    )
    names = [found.image_names[row] for row in rows]
    if of == "words":
        shown = _words_view(chosen, names, None if pictures is None else [pictures[row] for row in rows], interpolation)
    else:
        shown = _parts_view(chosen, names, of)
    return replace(shown, body=left_out + shown.body)


def _shown(what: str, given: Any, n: int) -> list[int]:
    """Positions of what is shown: the first if not given."""
    chosen = list(range(min(n, FIRST))) if given is None else checked_indices(what, given, n).tolist()
    if not 0 < len(chosen) <= MOST:
        raise ValueError(f"A view shows 1 to {MOST} {what}s, got {len(chosen)} of {n}: view({what}s=[0, 1, ...]).")
    return chosen


# ---------------------------------------------------------------- words and patches


def _words_view(
    found: Interaction, names: Sequence[str], pictures: Sequence[Image.Image] | None, interpolation: Interpolation
) -> View:
    maps = word_maps(found, names)
    placed = _placed(found, pictures)
    title = "Words and patches" + (f" of {names[0]}" if len(names) == 1 else "")
    explorers = []
    for of_image, (picture, placement) in zip(maps, placed, strict=True):
        first = of_image[0]
        photograph = first.blank() if picture is None else upright_rgb(picture)
        box = crop_box(photograph, placement, first.grid_size, interpolation)
        data = {
            "values": [floats(each.values) for each in of_image],
            "words": [list(each.letters) for each in of_image],
            "nothing": [list(each.nothing) for each in of_image],
            "texts": [printable(each.text) for each in of_image],
            "cosine": [each.cosine for each in of_image],
            "prefix": first.prefix,
            "grid": list(first.grid_size),
            "crop": list(box),
            "unseen": hides_something(box),
            "picture": None if picture is None else picture_uri(photograph, SIDE),
            "name": printable(first.image),
            "smooth": interpolation == "bilinear",
            "colours": over_photograph(),
        }
        name = Markup("<h3>{}</h3>").format(printable(first.image)) if len(maps) > 1 else Markup()
        described = f"Words and patches of {first.image} for {len(of_image)} texts"
        explorers.append(name + drawn("words", data, still_words(of_image, photograph, box), described))

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.maps.words import words_figure  # matplotlib, which a page does without.

        return words_figure(maps, placed, interpolation, title=title)

    note = "" if found.centred is None else '<p class="cl-soft">Words and patches are not centred.</p>'
    return View(title, Markup(note) + Markup().join(explorers), figure)


def _placed(
    found: Interaction, pictures: Sequence[Image.Image] | None
) -> list[tuple[Image.Image | None, Placement | None]]:
    """Each image's picture, and where the model's input lies on it; None of pixels."""
    model = found.images.readout.image_model
    height, width = model.cfg.image_size
    geometry = Geometry.of(model.preprocess, (width, height))
    if pictures is None and (found.images.photographs is None or geometry is None):
        return [(None, None)] * len(found.images)
    known = found.images.photographs or (None,) * len(found.images)
    return list(all_placed([Pictured(each, geometry) for each in known], model.cfg.grid_size, pictures))


# ---------------------------------------------------------------- layers and heads


def _parts_view(found: Interaction, names: Sequence[str], of: Of) -> View:
    grid = part_grid(found, names, of)

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.heads.parts import parts_figure

        return parts_figure(grid, title=grid.title)

    described = (
        f"{grid.title}: a heat map for each image and text, the image's parts from the top, the text's from the left"
    )
    greatest = Markup("<details><summary>The greatest (cosine)</summary>{}</details>").format(
        table(("image", "text", "part of the image", "part of the text", "added"), grid.greatest(GREATEST))
    )
    return View(grid.title, static(figure, described) + greatest, figure)
