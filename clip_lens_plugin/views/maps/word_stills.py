"""Words and patches as plain HTML, for where scripts do not run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.maps.patch_text import PatchTextMap
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.colours import on_white
from clip_lens_plugin.views.drawing.crops import Box
from clip_lens_plugin.views.drawing.numbers import places_for, signed
from clip_lens_plugin.views.maps.map_stills import still_maps
from clip_lens_plugin.views.maps.word_maps import WordMap


def still_words(of_image: Sequence[WordMap], picture: Image.Image, box: Box) -> Markup:
    """One image's maps, one for each text, and the words of each text in colour; an element of the class "cl-static".

    Args:
        of_image: with each text.
        picture: the photograph.
        box: left, top, width and height of all patches together, as parts of it.
    """
    maps = PatchTextMap(
        values=torch.stack([each.by_patch for each in of_image])[None],
        class_token=torch.tensor([[each.of_prefix for each in of_image]], dtype=torch.float64, device="cpu"),
        texts=tuple(each.text for each in of_image),
        cosine=torch.tensor([[each.cosine for each in of_image]], dtype=torch.float64, device="cpu"),
    )
    limit = max((abs(value) for each in of_image for value in each.by_word), default=0.0) or 1.0
    lines = [_line(each, limit) for each in of_image]
    scale = Markup('<p class="cl-soft">Under each word stands what it adds with all patches (cosine).</p>')
    return Markup('<div class="cl-static">{}{}{}</div>').format(
        still_maps(maps, picture, box), Markup().join(lines), scale
    )


def _line(each: WordMap, limit: float) -> Markup:
    word = Markup('<span class="cl-word{}"{}><span>{}</span><span class="cl-word-number">{}</span></span>')
    places = places_for(max(abs(value) for value in each.by_word))
    words = [
        word.format(" cl-nothing", "", letters, "0")
        if nothing
        else word.format(
            "", Markup(' style="background:{}"').format(on_white(value / limit)), letters, signed(value, places)
        )
        for letters, value, nothing in zip(each.letters, each.by_word, each.nothing, strict=True)
    ]
    return Markup('<div class="cl-soft">{}</div><div class="cl-spelt">{}</div>').format(
        one_line(each.text), Markup().join(words)
    )
