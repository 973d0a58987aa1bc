"""A folder of photographs, labelled by its subfolders."""

from __future__ import annotations

from pathlib import Path

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.images import evenly_spaced, find_images, folder_labels, printable
from clip_lens_plugin.pictures import open_upright
from clip_lens_plugin.sources.source import Sample, fingerprint_of, tail, unique_names


class FolderSource:
    """The image files of a folder and its subfolders, sorted by path; a name is the path inside the folder.

    Where all images lie in two or more subfolders, the folder that an image lies in is its class. Classes and
    names are those of the whole folder whatever the limit.
    """

    def __init__(self, folder: str | Path, limit: int | None = None) -> None:
        """Lists the folder; no image is opened.

        Args:
            folder: where to look.
            limit: use at most so many images, evenly spaced over the sorted list.

        Raises:
            ImageFolderError: if there is no such folder, it is a file, or it holds no image file.
            ValueError: if the limit is no whole number of at least 1.
        """
        limit = None if limit is None else checked_number("limit", limit)
        paths = [path.relative_to(folder).as_posix() for path in find_images(folder)]
        names = unique_names(printable(path) for path in paths)
        labels, self._classes = _labels(paths)
        kept = range(len(paths)) if limit is None else evenly_spaced(range(len(paths)), limit)
        # Absolute, because a worker process may start elsewhere.
        self._folder = Path(folder).resolve()
        self._paths = [paths[i] for i in kept]
        self._names = [names[i] for i in kept]
        self._labels = [labels[i] for i in kept]

    @property
    def description(self) -> str:
        return f"folder of photographs {printable(tail(self._folder.as_posix()))}"

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self._classes

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, position: int) -> str:
        return self._names[position]

    def read(self, position: int) -> Sample:
        return Sample(open_upright(self._folder / self._paths[position]), self._labels[position])

    def fingerprint(self) -> str:
        sizes = map(self._size, self._paths)
        return fingerprint_of("folder", self._classes, zip(self._names, sizes, strict=True))

    def _size(self, path: str) -> int:
        try:
            return (self._folder / path).stat().st_size
        except OSError:  # gone since it was listed; reading it says so
            return -1


def _labels(paths: list[str]) -> tuple[list[int], tuple[str, ...] | None]:
    folders = folder_labels(paths)
    if folders is None:
        return [-1] * len(paths), None
    found = sorted(set(folders))
    code = {folder: i for i, folder in enumerate(found)}
    return [code[folder] for folder in folders], tuple(unique_names(map(printable, found)))
