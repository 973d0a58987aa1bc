"""Maps over a photograph as plain HTML, for where scripts do not run: the page lays one picture over the other."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.maps.patch_text import PatchTextMap
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.colours import ADDS, OPACITY, TAKES, rgb
from clip_lens_plugin.views.drawing.encoding import picture_uri, png_uri

STILL_SIDE = 200
"""Longer side in pixels of the photograph."""


def still_maps(maps: PatchTextMap, picture: Image.Image, box: tuple[float, float, float, float]) -> Markup:
    """One image's maps side by side, all on one scale.

    Args:
        maps: of one image.
        picture: the photograph.
        box: left, top, width and height of all patches together, as parts of it.
    """
    values = maps.values[0].detach().double().cpu().numpy()
    limit = float(np.abs(values).max(initial=0.0)) or 1.0
    photograph = picture_uri(picture.convert("L"), STILL_SIDE)
    name = "cl-s" + hashlib.sha256(photograph.encode()).hexdigest()[:8]
    left, top, width, height = (f"{100 * each:.2f}%" for each in box)
    place = f"left:{left};top:{top};width:{width};height:{height}"
    shape = f"aspect-ratio:{picture.width}/{picture.height}"
    figures = [
        Markup(
            '<figure><div class="cl-photo {}" style="{}"><div class="cl-crop" style="{}">'
            '<img class="cl-map" alt="Map for {}" src="{}"></div></div><figcaption>{}: all heads {:+.4f} of cosine'
            "</figcaption></figure>"
        ).format(name, shape, place, text, png_uri(_painted(each / limit)), text, float(score))
        for text, each, score in zip(map(one_line, maps.texts), values, maps.scores[0], strict=True)
    ]
    style = Markup("<style>.{} {{ background: url({}) 0 0 / 100% 100%; }}</style>").format(name, photograph)
    scale = Markup('<p class="cl-soft">full colour ±{:.2g} cosine, orange for the text, purple against it</p>')
    return Markup('<div class="cl-static">{}<div class="cl-still">{}</div>{}</div>').format(
        style, Markup().join(figures), scale.format(limit)
    )


def _painted(relative: Float[np.ndarray, "rows columns"]) -> bytes:
    """A PNG of one pixel a patch, as opaque as its value is great."""
    painted = np.empty((*relative.shape, 4), dtype=np.uint8)
    painted[..., :3] = np.where(relative[..., None] > 0, rgb(ADDS), rgb(TAKES))
    painted[..., 3] = (255 * OPACITY * np.abs(relative)).round()
    buffer = io.BytesIO()
    Image.fromarray(painted).save(buffer, "PNG")
    return buffer.getvalue()
