"""What retrieval finds: tables of rows that know the data which they are rows of."""

from __future__ import annotations

from typing import Any, ClassVar

from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.describe.spans import HeadSpan
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.shown import ResultTable


class ImagesOfData(ResultTable):
    """A table whose column ``row`` is of images in data, which are kept to draw it, but not when it is pickled.

    Attributes:
        data: that was searched.
        pictures: of its rows, if whoever asked knows them; they are looked for if not.
    """

    data: Data | None = None
    pictures: Any = None

    def know(self, data: Data) -> None:
        """Keeps the data, and each row's name where images have one."""
        names = data.names
        if names is not None:
            self["name"] = [names[row] for row in self["row"]]
        object.__setattr__(self, "data", data)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in ("data", "pictures")}


class ExtremeImages(ImagesOfData):
    """What :func:`extreme_images` found; in a notebook it draws itself with the images, where they are in reach.

    Attributes:
        data: that was searched.
        spans: of each head, if TextSpan's texts were asked about; None for free texts.
    """

    printed = ("layer", "head", "text", "side", "place", "score", "row", "name")
    _metadata: ClassVar[list[str]] = ["spans"]
    spans: tuple[HeadSpan, ...] | None = None


class NearestImages(ImagesOfData):
    """What :func:`nearest_images` or :func:`nearest_to_text` found; it draws itself with the images that are in reach.

    Attributes:
        data: that was searched.
        chosen_heads: (layer, head) pairs, by which they were found.
        query: the picture asked about; None if it is a row of the data, a text, or not known.
        query_row: the row of the data asked about; None if it is something else.
        text: that was asked about; None if it was an image.
    """

    _metadata: ClassVar[list[str]] = ["chosen_heads", "query", "query_row", "text"]
    chosen_heads: tuple[tuple[int, int], ...] = ()
    query: Photograph | None = None
    query_row: int | None = None
    text: str | None = None
