"""Which folder is the class of an image, by the paths alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clip_lens_plugin.hints import hint
from clip_lens_plugin.labelling.names import classes_note, few

HIDDEN = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__")
"""Folders that programs make for themselves, beside those that begin with a dot."""

_SPLIT = re.compile(
    r"(\w+[-_ ])?"
    r"(train|training|trainval|val|valid|validation|test|testing|dev|eval|evaluation|hold[-_ ]?out|unlabell?ed|fold)"
    r"(?:[-_ ]?(?:set|split|data|images?|imgs?|\d+))*",
    re.IGNORECASE,
)


def is_hidden(folder: str) -> bool:
    """Whether a folder of this name holds no images of the user's: .ipynb_checkpoints, __MACOSX, .git, @eaDir."""
    return folder.startswith(".") or folder in HIDDEN


@dataclass(frozen=True)
class FolderClasses:
    """The class folder of each image.

    Attributes:
        folders: name of each image's class folder; None where it lies in none.
        names: the class folders, sorted; none at all where it is not plain which folders are classes.
        origin: where they lie, in words.
        notes: what was left out and why, one line each.
    """

    folders: tuple[str | None, ...]
    names: tuple[str, ...]
    origin: str
    notes: tuple[str, ...]

    @property
    def labels(self) -> list[int]:
        """Position of each image's class folder in ``names``, -1 for None."""
        code = {name: i for i, name in enumerate(self.names)}
        return [-1 if folder is None else code[folder] for folder in self.folders]

    def notes_with(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The classes, under the names that they go by, and the notes."""
        return (classes_note(classes, self.origin), *self.notes) if self.names else self.notes


def folder_classes(paths: Sequence[str]) -> FolderClasses:
    """The classes of images: the first folders in which their paths part.

    A folder that holds all others is passed through, and so are train, val, test and their like, whose class folders
    are taken together. What lies deeper belongs to its class. Where it is not plain which folders are classes there
    are none, and the note says why.

    Args:
        paths: of the images inside the folder, with slashes.
    """
    below, passed = _through([path.split("/")[:-1] for path in paths])
    tops = _tops(below)
    splits, is_plain = _splits(tops, below)
    notes = []
    if splits and is_plain:
        below, more = _through([each[1:] for each in below])
        if len(_tops(below)) < 2:
            return _none(paths, f"{_named(splits)} are splits of a data set and no classes, and hold no class folders")
        notes.append(f"{_named(splits)} are splits and no classes: their images are taken together")
        passed, tops = [*passed, _named(splits), *more], _tops(below)
    elif splits:
        others = few(sorted(set(tops) - set(splits)))
        return _none(
            paths, f"{_named(splits)} may be a split or a class beside {others}; give a folder of classes alone"
        )
    if len(tops) < 2:
        return _none(paths, "they do not lie in two or more folders")
    folders = tuple(each[0] if each else None for each in below)
    outside = [path for path, folder in zip(paths, folders, strict=True) if folder is None]
    if 2 * len(outside) > len(paths):
        return _none(paths, f"{len(outside):,} of {len(paths):,} lie outside of any class folder")
    if outside:
        one = len(outside) == 1
        how_many = "1 image lies" if one else f"{len(outside):,} images lie"
        label = "it has no label" if one else "they have no label"
        notes.append(f"{how_many} outside of the class folders: {label} ({few(outside, 3)})")
    deeper = sorted({"/".join(each[:2]) for each in below if len(each) > 1})
    if deeper:
        notes.append(f"folders inside a class folder belong to that class ({few(deeper)})")
    origin = f"the folders in {'/'.join(passed)}" if passed else "the folders"
    return FolderClasses(folders, tuple(sorted(tops)), origin, tuple(notes))


def _through(below: list[list[str]]) -> tuple[list[list[str]], list[str]]:
    """The folders below the one that holds all others, and the names of those passed through."""
    passed = []
    while len(tops := _tops(below)) == 1 and any(len(each) > 1 for each in below):
        passed.append(tops[0])
        below = [each[1:] for each in below]
    return below, passed


def _tops(below: list[list[str]]) -> list[str]:
    return list({each[0]: None for each in below if each})


def _splits(tops: list[str], below: list[list[str]]) -> tuple[list[str], bool]:
    """Those of the first folders that have the name of a split, and whether they are splits without doubt."""
    found = {top: match for top in sorted(tops) if (match := _SPLIT.fullmatch(top))}
    if len(tops) >= 2 and len(found) == len(tops):
        # "seg_train" beside "seg_test" are splits, "bullet_train" beside "steam_train" are not.
        words = {match[2].lower() for match in found.values()}
        return ([*found], True) if len(words) > 1 or not any(match[1] for match in found.values()) else ([], False)
    plain = [top for top, match in found.items() if not match[1]]
    # A train is also what runs on rails.
    is_class = plain == ["train"] and all(len(each) == 1 for each in below if each)
    return ([] if is_class or len(tops) < 2 else plain), False


def _none(paths: Sequence[str], reason: str) -> FolderClasses:
    note = (
        f"no labels from the folders: {reason}. {hint('--labels FILE (labels=)', '--labels FILE')} gives them by name"
    )
    return FolderClasses((None,) * len(paths), (), "", (note,))


def _named(folders: list[str]) -> str:
    *rest, last = folders[:4]
    more = " and others" if len(folders) > 4 else ""
    return f"{', '.join(rest)} and {last}{more}" if rest and not more else f"{', '.join(folders[:4])}{more}"
