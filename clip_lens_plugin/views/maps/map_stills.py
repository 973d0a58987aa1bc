"""Maps over a photograph as plain HTML, for where scripts do not run: the page lays one picture over the other."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.maps.patch_text import PatchTextMap
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.colours import ADDS, OPACITY, TAKES
from clip_lens_plugin.views.drawing.crops import Box, hides_something
from clip_lens_plugin.views.drawing.encoding import picture_uri, png_uri
from clip_lens_plugin.views.drawing.numbers import signed, tick_label
from clip_lens_plugin.views.words.maps import ADDED, greatest, named_heads

STILL_SIDE = 200
"""Longer side in pixels of the photograph."""


@dataclass(frozen=True)
class Backdrop:
    """A grey photograph that a page holds once, under any number of maps.

    Attributes:
        name: of its class.
        style: the style element, which a page needs once.
        shape, place: styles of the photograph's sides, and of the place of all patches on it.
        faded: whether what lies in no patch is faded.
    """

    name: str
    style: Markup
    shape: str
    place: str
    faded: bool = False

    @classmethod
    def of(cls, picture: Image.Image, box: Box, fades: bool = False) -> Backdrop:
        """Of a picture, and left, top, width and height of all patches together, as parts of it.

        Args:
            picture, box: the photograph, and where the patches lie on it.
            fades: whether what lies in no patch is faded.
        """
        photograph = picture_uri(picture.convert("L"), STILL_SIDE)
        name = "cl-s" + hashlib.sha256(photograph.encode()).hexdigest()[:8]
        left, top, width, height = (f"{100 * each:.2f}%" for each in box)
        style = Markup("<style>.{} {{ background: url({}) 0 0 / 100% 100%; }}</style>").format(name, photograph)
        place = f"left:{left};top:{top};width:{width};height:{height}"
        return cls(name, style, f"aspect-ratio:{picture.width}/{picture.height}", place, fades and hides_something(box))

    def under(self, relative: Float[np.ndarray, "rows columns"], described: str, over: str = "") -> Markup:
        """The photograph under a map of values from −1 to 1, and under markup that lies over both."""
        return Markup(
            '<div class="cl-photo {}" style="{}"><div class="cl-crop" style="{}"><img class="cl-map" alt="{}" src="{}">'
            "</div>{}</div>"
        ).format(
            f"{self.name} cl-unseen" if self.faded else self.name,
            self.shape,
            self.place,
            described,
            png_uri(painted(relative)),
            Markup(over),
        )


def still_maps(maps: PatchTextMap, picture: Image.Image, box: Box) -> Markup:
    """One image's maps side by side, all on one scale.

    Args:
        maps: of one image.
        picture: the photograph.
        box: left, top, width and height of all patches together, as parts of it.
    """
    values = maps.values[0].detach().double().cpu().numpy()
    limit = greatest(maps)
    behind = Backdrop.of(picture, box)
    figures = [
        Markup("<figure>{}<figcaption>{}<br>{}</figcaption></figure>").format(
            behind.under(each / limit, f"Map for {text}"), text, _in_words(maps, t)
        )
        for t, (text, each) in enumerate(zip(map(one_line, maps.texts), values, strict=True))
    ]
    scale = Markup('<p class="cl-soft">{}: purple takes away down to {}, orange adds up to {}, 0 is clear.</p>')
    return Markup('<div class="cl-static">{}<div class="cl-still">{}</div>{}</div>').format(
        behind.style,
        Markup().join(figures),
        scale.format(ADDED.capitalize(), tick_label(-limit, True), tick_label(limit, True)),
    )


def _in_words(maps: PatchTextMap, t: int) -> Markup:
    added = signed(float(maps.scores[0, t]), 4)
    if maps.cosine is None:
        return Markup("added by the heads {}").format(added)
    whole = signed(float(maps.cosine[0, t]), 4)
    return Markup("<b>cosine {}</b><br>of which by {} {}").format(whole, named_heads(maps.heads), added)


def painted(relative: Float[np.ndarray, "rows columns"]) -> bytes:
    """A PNG of one pixel per patch, as opaque as its value is great."""
    adds, takes = ([int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (ADDS, TAKES))
    painted = np.empty((*relative.shape, 4), dtype=np.uint8)
    painted[..., :3] = np.where(relative[..., None] > 0, adds, takes)
    painted[..., 3] = (255 * OPACITY * np.abs(relative)).round()
    buffer = io.BytesIO()
    Image.fromarray(painted).save(buffer, "PNG")
    return buffer.getvalue()
