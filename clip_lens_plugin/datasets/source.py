"""What every kind of data set becomes: samples at positions, each with a name known before it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from PIL import Image
from torch import Tensor

GREATEST_LABEL = 2**31 - 1


@dataclass(frozen=True)
class Sample:
    """One image and its label.

    Attributes:
        image: an upright picture in RGB, or one that is preprocessed already.
        label: position in the source's ``classes``; -1 where it is not known.
    """

    image: Image.Image | Float[Tensor, "3 height width"]
    label: int


@runtime_checkable
class ImageSource(Protocol):
    """A data set with random access. It can be pickled, because the workers of a DataLoader get it."""

    @property
    def description(self) -> str:
        """What it is, for messages and for the results: "folder of photographs imagenet/val"."""
        ...

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None if they have no names or there are no labels."""
        ...

    def __len__(self) -> int:
        """Number of samples, those that will prove unreadable included."""
        ...

    def name(self, position: int) -> str:
        """What identifies the sample at a position among all of this source; cheap, because nothing is read."""
        ...

    def read(self, position: int) -> Sample:
        """The sample at a position from 0 to ``len(self) - 1``.

        Raises:
            UnreadableImageError: if there is no usable picture or label; the message is the reason.
            ValueError: if the data set gives something else than a picture and an integer.
        """
        ...

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over what must not change between an interrupted run and its resumption.

        That is the names in their order, sizes in bytes where they are known, and the classes; not where the
        data set lies.
        """
        ...


def fingerprint_of(kind: str, classes: tuple[str, ...] | None, samples: Iterable[tuple[str, int]]) -> str:
    """SHA-256, in hexadecimal, over the kind of source, its classes, and each sample's (name, bytes or -1)."""
    digest = hashlib.sha256(json.dumps([kind, classes]).encode())
    for name, size in samples:
        digest.update(json.dumps([name, size]).encode())
    return digest.hexdigest()


def unique_names(names: Iterable[str]) -> list[str]:
    """The names, of which a second one that is equal gets "~2", a third "~3", and so on.

    A number that would make a name that is there already is passed over.
    """
    names = list(names)
    present, count, result = set(names), {}, []
    if len(present) == len(names):
        return names
    for name in names:
        count[name] = count.get(name, 0) + 1
        unique = name
        while unique != name or count[name] > 1:
            unique = f"{name}~{count[name]}"
            if unique not in present:
                break
            count[name] += 1
        present.add(unique)
        result.append(unique)
    return result


def checked_label(label: int, classes: Sequence[str] | None, name: str) -> int:
    """The label, if it is one.

    Raises:
        ValueError: if it is below -1 or beyond the last class.
    """
    greatest = GREATEST_LABEL if classes is None else len(classes) - 1
    if not -1 <= label <= greatest:
        known = "" if classes is None else f" for {len(classes)} classes"
        raise ValueError(
            f"The label of {name!r} is {label}; expected -1 for an unknown one, or 0 to {greatest}{known}."
        )
    return label


def tail(path: str) -> str:
    """The last two parts of a path, enough to recognise it: "imagenet/val"."""
    return "/".join([part for part in path.split("/") if part][-2:]) or path
