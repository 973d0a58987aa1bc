"""The class and the cue of each image: what groups are made of."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from clip_lens_plugin.arguments import is_whole
from clip_lens_plugin.decomposition.analysed import Analysed
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.groups.table import read_columns
from clip_lens_plugin.hints import given_as
from clip_lens_plugin.labelling.names import few

Part = str
PARTS: tuple[Part, ...] = ("means", "validation", "test")
"""What the images are parted into: means are taken of the first, heads chosen on the second, the third is reported."""

_PARTS_BY_NAME = {
    **dict.fromkeys(("means", "train", "training", "0"), "means"),
    **dict.fromkeys(("validation", "val", "valid", "1"), "validation"),
    **dict.fromkeys(("test", "2"), "test"),
}
"""Values of a column of splits, in lower case; the numbers are those of Waterbirds and CelebA."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The class of each of n images, and the value of a cue that the class may be mistaken by.

    Attributes:
        classes, cues: names of the classes and of the cue's values.
        labels, values: of each image, the position of its class and of its cue among them; -1 where it is not known.
        parts: of each image "means", "validation" or "test", "" for none of them; None where they are to be drawn.
    """

    classes: tuple[str, ...]
    cues: tuple[str, ...]
    labels: Int[np.ndarray, " n"]
    values: Int[np.ndarray, " n"]
    parts: tuple[Part, ...] | None = None

    @classmethod
    def of(
        cls,
        labels: Any,
        cues: Any,
        splits: Iterable[Any] | None = None,
        *,
        classes: Sequence[str] | None = None,
        cue_names: Sequence[str] | None = None,
    ) -> Groups:
        """Groups from one value per image, as the columns of a data set have them.

        Args:
            labels: the class of each image: whole numbers (-1 where unknown) or texts (None where unknown).
            cues: the cue of each image, likewise.
            splits: "train" (or "means"), "val" (or "validation") or "test" of each image, or 0, 1 or 2; drawn later if
                not given.
            classes, cue_names: what the numbers stand for.

        Raises:
            ValueError: if there are more of the one than of the other, a value is neither a number nor a text, or a
                split is none.
        """
        numbers, named = codes("labels", labels, classes)
        values, cue_values = codes("cues", cues, cue_names)
        parts = None if splits is None else _parts(splits)
        if len({len(numbers), len(values), *([] if parts is None else [len(parts)])}) > 1:
            and_splits = "" if parts is None else f" and {len(parts)} splits"
            raise ValueError(
                f"Each image has a class and a cue: got {len(numbers)} labels, {len(values)} cues{and_splits}."
            )
        return cls(named, cue_values, numbers, values, parts)

    @classmethod
    def read(
        cls,
        path: str | Path,
        data: Data | Sequence[str],
        *,
        label_column: str | None = None,
        cue_column: str = "place",
        split_column: str = "split",
    ) -> Groups:
        """Groups from a CSV with an image's name, its class and its cue on each line, such as Waterbirds' metadata.csv.

        Names are paths in the data set, file names, or either without suffix. Rows of other images do no harm.

        Args:
            path: a file, or the folder that holds a metadata.csv.
            data: contributions or a store, or the names of the images.
            label_column: header of the classes; recognised ("y", "label", ...) if not given, or else the data's own
                labels are taken.
            cue_column: header of the cue.
            split_column: header of the splits; if there is no such column, they are drawn later.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if an image has no row or two, a column is missing, or the images have no names.
        """
        names = data.names if isinstance(data, Analysed) else tuple(data)
        if names is None:
            raise ValueError(
                f"These images have no names to find in {path}: give Groups.of(labels, cues) in their order."
            )
        found = read_columns(Path(path), names, label_column, cue_column, split_column)
        if found.labels is not None:
            labels, classes = found.labels
        elif isinstance(data, Analysed) and data.labels is not None:
            labels, classes = data.labels, data.classes
        else:
            raise ValueError(
                f"{path} has no column that is known to hold classes, and the data have no labels: "
                f"{given_as('label_column')} names the column."
            )
        cues, cue_names = found.cues
        return cls.of(labels, cues, found.splits, classes=classes, cue_names=cue_names)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return (
            f"Groups({len(self)} images, classes={few(self.classes)}, cues={few(self.cues)}, "
            f"splits={'to be drawn' if self.parts is None else 'given'})"
        )


def groups_of(given: Any, data: Data) -> Groups:
    """Groups as they are; those of a CSV; or those of the cue of each image, the classes being the data's own.

    Raises:
        ValueError: if they are not as many as the images, or the data have no labels; and as :meth:`Groups.read`.
    """
    if isinstance(given, str | os.PathLike):
        given = Groups.read(Path(given), data)
    if not isinstance(given, Groups):
        if data.labels is None:
            raise ValueError(
                "These data have no labels of their own, so the cue alone makes no groups: give "
                "Groups.of(labels, cues)."
            )
        given = Groups.of(data.labels, given, classes=data.classes)
    if len(given) != len(data):
        raise ValueError(f"{len(data)} images need as many groups, got {len(given)}.")
    return given


def codes(what: str, given: Any, names: Sequence[str] | None) -> tuple[Int[np.ndarray, " n"], tuple[str, ...]]:
    """Each value's position among the names, -1 for unknown; of texts without names the distinct ones, sorted.

    Raises:
        ValueError: if they are no list of whole numbers, or of texts, or one has no name.
    """
    listed = given.tolist() if isinstance(given, Tensor | np.ndarray) else given
    if isinstance(listed, str | bytes) or not isinstance(listed, Iterable):
        raise ValueError(f"{what} takes a value for each image, got {given!r:.60}.")
    values = [None if each is None or each != each else each for each in listed]
    known = [each for each in values if each is not None]
    if all(isinstance(each, str) for each in known) and known:
        spelt = tuple(sorted(set(known))) if names is None else tuple(names)
        place: dict[Any, int] = {name: i for i, name in enumerate(spelt)}
    elif all(is_whole(each) or isinstance(each, bool | np.bool_) for each in known) and known:
        greatest = max(int(each) for each in known)
        spelt = tuple(map(str, range(greatest + 1))) if names is None else tuple(names)
        place = {i: i for i in range(-1, len(spelt))}
    else:
        wrong = next((each for each in known if not isinstance(each, str)), None)
        raise ValueError(f"{what} are whole numbers or texts, one for each image, got {wrong!r:.60} among them.")
    strange = [each for each in known if each not in place]
    if strange:
        raise ValueError(f"{what} holds {strange[0]!r:.60}, which is none of {few(spelt)}.")
    return np.array([-1 if each is None else place[each] for each in values], dtype=np.int64), spelt


def _parts(splits: Iterable[Any]) -> tuple[Part, ...]:
    listed = splits.tolist() if isinstance(splits, Tensor | np.ndarray) else list(splits)
    parts = []
    for each in listed:
        name = "" if each is None or each != each else str(each).strip().lower()
        if name and name not in _PARTS_BY_NAME:
            raise ValueError(
                f"A split is 'train' (or 'means', 0), 'val' (or 'validation', 1) or 'test' (2), got {each!r:.60}."
            )
        parts.append(_PARTS_BY_NAME.get(name, ""))
    return tuple(parts)


def refuse_twice(names: Sequence[str]) -> None:
    """Raises ValueError if two rows are of one image, which could then stand in two parts."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(
            f"{len(twice):,} images occur more than once, the first {twice[0]!r}, and would be chosen on and reported "
            f"on at once. Leave the second of each out."
        )
