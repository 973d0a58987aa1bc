"""A folder of photographs, labelled by its subfolders."""

from __future__ import annotations

from pathlib import Path

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.datasets.image_folder import Skipped, evenly_spaced, find_images
from clip_lens_plugin.datasets.source import Sample, fingerprint_of, tail, unique_names
from clip_lens_plugin.files.given import UnreachableError, reason_of
from clip_lens_plugin.images.pictures import UnreadableImageError, open_upright
from clip_lens_plugin.labelling.folders import folder_classes
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.labelling.wordnet import worded
from clip_lens_plugin.plain_text import printable


class FolderSource:
    """The image files of a folder and its subfolders, sorted by path; a name is the path inside the folder.

    Behind them stands what is left out, such as a link that leads out of the folder, as samples that cannot be read.
    The first folders in which the paths part are the classes, see
    :func:`~clip_lens_plugin.labelling.folders.folder_classes`. Classes and names are those of the whole folder whatever
    the limit.
    """

    def __init__(self, folder: str | Path, limit: int | None = None) -> None:
        """Lists the folder; no image is opened.

        Args:
            folder: where to look.
            limit: use at most this many images, evenly spaced over the sorted list.

        Raises:
            ImageFolderError: if there is no such folder, it is a file, or it holds no image file.
            UnreachableError: if it cannot be listed to its end.
            ValueError: if the limit is no whole number of at least 1.
        """
        limit = None if limit is None else checked_number("limit", limit)
        left_out: list[Skipped] = []
        hidden: list[str] = []
        paths = [path.relative_to(folder).as_posix() for path in find_images(folder, None, left_out, hidden)]
        names = unique_names([*map(printable, paths), *(each.name for each in left_out)])
        found = folder_classes(paths)
        self._folders = tuple(unique_names(map(printable, found.names))) or None
        self._classes = None if self._folders is None else worded(self._folders)
        self.left_out = (f"hidden folders are left out: {few(hidden)}",) if hidden else ()
        self._notes = tuple(map(printable, found.notes_with(self._classes or ())))
        labels = [*found.labels, *(-1 for _ in left_out)]
        refused = [*(None for _ in paths), *(each.reason for each in left_out)]
        paths += [each.name for each in left_out]
        kept = range(len(paths)) if limit is None else evenly_spaced(range(len(paths)), limit)
        # Absolute, because a worker process may start elsewhere.
        self._folder = Path(folder).resolve()
        self._paths = [paths[i] for i in kept]
        self._names = [names[i] for i in kept]
        self._labels = [labels[i] for i in kept]
        self._refused = [refused[i] for i in kept]

    @property
    def description(self) -> str:
        """The folder of photographs, by its last names."""
        return f"folder of photographs {printable(tail(self._folder.as_posix()))}"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class folders, in words where they are WordNet ids; None if the photographs are in none."""
        return self._classes

    @property
    def label_notes(self) -> tuple[str, ...]:
        """What is taken for a class, and what is left out."""
        return self._notes + self.left_out

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, position: int) -> str:
        """The path, inside the folder, of the photograph at a position."""
        return self._names[position]

    def read(self, position: int) -> Sample:
        """The photograph at a position, turned upright and in RGB, and the number of its class folder.

        Raises:
            UnreadableImageError: if it is no usable picture, or was left out; the message says why.
        """
        refused = self._refused[position]
        if refused is not None:
            raise UnreadableImageError(refused)
        return Sample(open_upright(self._folder / self._paths[position]), self._labels[position])

    def fingerprint(self) -> str:
        """Of the class folders, and the path and size in bytes of every photograph, in their order."""
        sizes = map(self._size, self._paths, self._refused)
        return fingerprint_of("folder", self._folders, zip(self._names, sizes, strict=True))

    def _size(self, path: str, refused: str | None) -> int:
        if refused is not None:
            return -1
        try:
            return (self._folder / path).stat().st_size
        except OSError as error:
            message = f"{printable(path)!r} in {self._folder} cannot be reached: {reason_of(error)}. Bring it back."
            raise UnreachableError(message) from error
