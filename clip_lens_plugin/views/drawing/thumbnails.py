"""Small pictures that a page holds once each, however often they are shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.views.drawing.encoding import picture_uri

THUMBNAIL_SIDE = 96
"""Longer side in pixels, for 64 on a page."""


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of rows, each the background of a class of its own.

    Attributes:
        uris: data address of each row's picture.
    """

    uris: Mapping[int, str]

    @classmethod
    def of(cls, rows: Iterable[int], pictures: Mapping[int, Image.Image] | None) -> Thumbnails:
        """Thumbnails of the rows; none where there are no pictures.

        Raises:
            KeyError: if the picture of a row is missing.
        """
        if pictures is None:
            return cls({})
        return cls({row: picture_uri(pictures[row], THUMBNAIL_SIDE) for row in sorted(set(rows))})

    @cached_property
    def prefix(self) -> str:
        """Of class names, so that galleries of one page keep their own pictures."""
        return "cl-g" + hashlib.sha256("".join(self.uris.values()).encode()).hexdigest()[:8]

    @property
    def style(self) -> Markup:
        """The style element, which a page needs once."""
        rules = (f".{self.prefix}-{row} {{ background-image: url({uri}); }}" for row, uri in self.uris.items())
        return Markup("<style>\n{}\n</style>").format(Markup("\n".join(rules)))
