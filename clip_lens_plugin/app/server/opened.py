"""A picture that a browser sent: decoded as a picture of a known format, or refused."""

from __future__ import annotations

import os
from io import BytesIO

from clip_lens_plugin.app.server.serve import MOST_UPLOADED
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.images.pictures import open_upright
from clip_lens_plugin.plain_text import one_line

UPLOADED = "uploaded picture"


def uploaded(content: bytes | None, name: str = UPLOADED) -> Photograph:
    """The picture of a file's content, upright and in RGB.

    Raises:
        ValueError: if there is none, it is too large, or no picture that can be used.
    """
    if not content:
        raise ValueError("The file is empty: choose a picture.")
    if len(content) > MOST_UPLOADED:
        raise ValueError(f"The file has more than {MOST_UPLOADED >> 20} MB: make the picture smaller.")
    try:
        return Photograph(open_upright(BytesIO(content)), one_line(os.path.basename(name), 80))
    except ValueError as error:
        raise ValueError(f"{one_line(name, 80)} cannot be used: {error}.") from error
