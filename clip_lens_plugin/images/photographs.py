"""Pictures that a user gave, by name, opened when they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

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


def names_of(paths: Sequence[str]) -> list[str]:
    """The name of each file, after as many of its last folders as tell it from others of the same name."""
    parts = [Path(path).parts for path in paths]
    depth = [1] * len(paths)
    while True:
        shown = [Path(*each[-n:]).as_posix() for each, n in zip(parts, depth, strict=True)]
        files: dict[str, set[tuple[str, ...]]] = {}
        for name, each in zip(shown, parts, strict=True):
            files.setdefault(name, set()).add(each)
        deeper = [n + (len(files[name]) > 1) for name, n in zip(shown, depth, strict=True)]
        if deeper == depth:
            return shown
        depth = deeper


Photographs = tuple[Photograph, ...]


def some_of(photographs: Photographs | None, rows: Iterable[int]) -> Photographs | None:
    """The photographs of some rows, in the given order; None where there are none."""
    return None if photographs is None else tuple(photographs[row] for row in rows)
