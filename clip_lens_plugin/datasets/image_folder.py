"""A folder of photographs as one tensor, and a list of what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.datasets.listing import listed
from clip_lens_plugin.files.given import UnreachableError, reason_of
from clip_lens_plugin.images.pictures import SUFFIXES, UnreadableImageError, open_upright
from clip_lens_plugin.labelling.folders import folder_classes
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.plain_text import printable

T = TypeVar("T")


class ImageFolderError(ValueError):
    """The folder is missing, is no folder, holds no image file, or none that can be read."""


@dataclass(frozen=True)
class Skipped:
    """A file that was not used: its path inside the folder and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class LoadedImages:
    """Preprocessed images; ``names[i]`` is the path of ``tensor[i]`` inside the folder, ``paths[i]`` its file."""

    tensor: Float[Tensor, "b 3 height width"]
    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    paths: tuple[Path, ...]

    def folder_labels(self) -> tuple[str | None, ...] | None:
        """Name of the class folder of each image, None for one outside; or None if there are no class folders."""
        return folder_labels(self.names)

    def photograph(self, i: int) -> Image.Image:
        """The picture that ``tensor[i]`` was made of, upright and whole, read again.

        Raises:
            UnreadableImageError, UnreachableError: if it has changed or is gone since.
        """
        with _naming(str(self.paths[i])):
            return open_upright(self.paths[i])


@contextmanager
def _naming(file: str) -> Iterator[None]:
    """The file's name in the message that it cannot be reached."""
    try:
        yield
    except (OSError, MemoryError) as error:
        raise UnreachableError(
            f"{printable(file)} cannot be reached: {reason_of(error)}. It may be whole, so it is not skipped; bring "
            f"the data back and start again."
        ) from error


def find_images(
    folder: str | Path,
    limit: int | None = None,
    left_out: list[Skipped] | None = None,
    hidden: list[str] | None = None,
) -> list[Path]:
    """Image files in the folder and its subfolders, sorted by path.

    A link to a file inside is a file; one to a folder inside is passed over, because what it leads to is listed in its
    own place. Links that lead out, and pipes and the like with an image's name, are left out, and so is what lies in
    hidden folders (.ipynb_checkpoints, __MACOSX, @eaDir).

    Args:
        folder: where to look.
        limit: keep at most this many, evenly spaced over the sorted list.
        left_out: a list that what was left out is added to.
        hidden: a list that hidden folders are added to, as paths inside the folder.

    Raises:
        ImageFolderError: if there is no such folder, it is a file, or it holds no image file.
        UnreachableError: if it cannot be listed to its end.
        ValueError: if the limit is no whole number of at least 1.
    """
    limit = None if limit is None else checked_number("limit", limit)
    root = Path(folder)
    if not root.exists():
        raise ImageFolderError(f"There is no folder {folder}.")
    if not root.is_dir():
        raise ImageFolderError(f"{folder} is a file, expected a folder of images.")
    found, not_taken, not_entered = listed(root)
    skipped = sorted((printable(path.relative_to(root).as_posix()), printable(why)) for path, why in not_taken)
    passed = sorted(printable(path.relative_to(root).as_posix()) for path in not_entered)
    if left_out is not None:
        left_out += [Skipped(*each) for each in skipped]
    if hidden is not None:
        hidden += passed
    if not found:
        but = f" {skipped[0][0]!r} is {skipped[0][1]}." if skipped else ""
        but += f" Hidden folders are left out ({few(passed)})." if passed else ""
        raise ImageFolderError(f"{folder} holds no image files; looked for {' '.join(SUFFIXES)}.{but}")
    found.sort(key=lambda path: path.relative_to(root).as_posix())
    return found if limit is None else evenly_spaced(found, limit)


def evenly_spaced(items: Sequence[T], limit: int) -> list[T]:
    """At most ``limit`` of the items, in their order, at even distances from the first on."""
    if limit >= len(items):
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def folder_labels(names: Sequence[str]) -> tuple[str | None, ...] | None:
    """Name of the class folder of each file, None for one outside; or None if there are no class folders.

    Args:
        names: paths inside the folder, with slashes; see
            :func:`~clip_lens_plugin.labelling.folders.folder_classes` for what is a class.
    """
    found = folder_classes(names)
    return found.folders if found.names else None


def load_images(
    folder: str | Path,
    paths: Sequence[Path],
    preprocess: Callable[..., Any] | None,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> LoadedImages:
    """Opens, turns upright and preprocesses every file; one that cannot be read goes on the list of skipped.

    Args:
        folder: names are given relative to it.
        paths: files in it, as :func:`find_images` returns them.
        preprocess: PIL picture to [3, height, width], as ``model.preprocess``.
        on_progress: called with (done, total) after each file.

    Raises:
        ImageFolderError: if no file can be read.
        UnreachableError: if a file is gone, or the disk or the memory fails.
        ValueError: if there is no preprocessing.
    """
    if preprocess is None:
        raise ValueError("The model was wrapped without preprocessing, so it cannot take photographs.")
    tensors, names, skipped, used = [], [], [], []
    for done, path in enumerate(paths, start=1):
        name = printable(path.relative_to(folder).as_posix())
        try:
            with _naming(str(path)):
                tensors.append(preprocess(open_upright(path)))
            names.append(name)
            used.append(path)
        except UnreadableImageError as error:
            skipped.append(Skipped(name, str(error)))
        on_progress(done, len(paths))
    if not tensors:
        first = f"; the first, {skipped[0].name!r}: {skipped[0].reason}" if skipped else ""
        raise ImageFolderError(f"None of the {len(paths)} image files in {folder} could be read{first}.")
    return LoadedImages(torch.stack(tensors), tuple(names), tuple(skipped), tuple(used))
