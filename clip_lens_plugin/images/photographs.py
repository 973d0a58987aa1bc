"""Pictures that a user gave, by name, opened when they are needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from clip_lens_plugin.images.pictures import open_upright, upright_rgb


@dataclass(frozen=True)
class Photograph:
    """A picture and its name.

    Attributes:
        source: the path of its file, or the picture itself.
        name: the file's, or what else tells it from others.
    """

    source: str | Image.Image
    name: str

    def open(self) -> Image.Image:
        """The picture upright and in RGB; a file is read each time, so that no number of them fills the memory.

        Raises:
            UnreadableImageError: if it cannot be used.
            UnreachableError: if its place cannot be reached.
        """
        return open_upright(self.source) if isinstance(self.source, str) else upright_rgb(self.source)

    def __repr__(self) -> str:
        return f"Photograph({self.name!r})"


Photographs = tuple[Photograph, ...]


def some_of(photographs: Photographs | None, rows: Iterable[int]) -> Photographs | None:
    """The photographs of some rows, in the given order; None where there are none."""
    return None if photographs is None else tuple(photographs[row] for row in rows)
