"""Where the images and labels of a webdataset shard lie, found without reading them."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import IOBase
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int64

from clip_lens_plugin.files.given import UnreachableError, is_unreachable, reason_of
from clip_lens_plugin.images.pictures import SUFFIXES

_BLOCK = 512  # bytes; a tar file ends with blocks of zeros
_MOST_HEADER = 2**16  # bytes of a long name or of pax records
_MANY_DIGITS = re.compile(rb"[0-9]{256}")


@dataclass(frozen=True)
class TarIndex:
    """Samples of a shard in the order in which they begin.

    Attributes:
        keys: a sample's path up to the first dot of its base name.
        images: offset and size in bytes of the image; size -1 where ``problems`` says why there is none.
        labels: offset and size in bytes of the first of the members that may hold the label; size -1 without any.
        json: positions of the samples whose label, if any, is in a ``.json`` member.
        suffixes: of all members, in lower case without the dot.
        problems: position to the reason why a sample has no image.
    """

    keys: list[str]
    images: Int64[np.ndarray, "n 2"]
    labels: Int64[np.ndarray, "n 2"]
    json: frozenset[int]
    suffixes: frozenset[str]
    problems: dict[int, str]


LABEL_SUFFIXES = ("cls", "cls.txt", "label", "label.txt", "json")
"""Members that may hold a sample's label, the first that is there."""


def index_tar(file: IOBase, name: str, label_suffixes: Sequence[str] = LABEL_SUFFIXES) -> TarIndex:
    """Reads the headers of an uncompressed tar file.

    Members with the same key make one sample, also where others stand between them. The suffix is all after the
    first dot of the base name; members without a key or suffix are passed over, as are folders. A sample whose image
    or label is a link, a pipe, a device or stored sparsely is a problem: no link is followed.

    Args:
        file: seekable.
        name: of the shard, for messages.
        label_suffixes: of the members that may hold the label, the first that is there.

    Raises:
        ValueError: if it is no plain tar file, is cut off or damaged, or two members have the same name.
        UnreachableError: if it cannot be read, which does not mean that it is damaged.
    """
    samples: dict[str, dict[str, _Held]] = {}
    try:
        with tarfile.open(fileobj=_Watched(file), mode="r:") as tar:  # pyright: ignore[reportArgumentType, reportCallIssue]
            before = -1
            for member in tar:
                # Kept by tarfile, but needed no more; a shard can have very many.
                tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
                if tar.offset <= before or member.size < 0:
                    raise _DamagedError("a member's size leads backwards")
                before = tar.offset
                _add(samples, member, name)
            end = tar.offset
    except _RefusedError:
        raise
    except Exception as error:  # tarfile raises nearly anything on a damaged header
        if is_unreachable(error):
            raise UnreachableError(
                f"The shard {name} cannot be read: {reason_of(error)}. Bring it back and start again."
            ) from error
        reason = "headers that lead to headers without end" if isinstance(error, RecursionError) else reason_of(error)
        raise ValueError(f"{_bad(name)}: {reason}. {_EXPECTED}") from error
    # tarfile takes a damaged header, and a file that stops between two members, for the end.
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):
        raise ValueError(f"{_bad(name)} at byte {end:,}: the mark of the end is missing. {_EXPECTED}")
    return _index(samples, label_suffixes)


_EXPECTED = "Expected a whole, uncompressed .tar file; fetch or write it anew."


def _bad(name: str) -> str:
    return f"The shard {name} is cut off, damaged or no tar file"


class _RefusedError(ValueError):
    """A whole tar file that is no shard."""


class _DamagedError(Exception):
    """What tarfile would go on with for ever, or to the end of the memory."""


class _Watched:
    """The file that tarfile reads headers from; one that makes it read too much, or the end again, is damaged."""

    def __init__(self, file: Any) -> None:
        self._file, self._reads_at_the_end = file, 0

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_HEADER:
            raise _DamagedError(f"a header of {size:,} bytes, at most {_MOST_HEADER:,} are read")
        held = self._file.read(size)
        self._reads_at_the_end = 0 if held else self._reads_at_the_end + 1
        if self._reads_at_the_end > 2:
            raise _DamagedError("a header goes on behind the end")
        # tarfile's search for numbers takes the square of their length.
        if _MANY_DIGITS.search(held):
            raise _DamagedError("a number of more than 255 digits")
        return held

    def seek(self, position: int) -> int:
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()


_Held = tuple[int, int] | str
"""Offset and size of a member's bytes, or why they are not taken."""


def _add(samples: dict[str, dict[str, _Held]], member: tarfile.TarInfo, shard: str) -> None:
    path = PurePosixPath(member.name)
    stem, dot, suffix = path.name.partition(".")
    if not stem or not dot or member.isdir():
        return
    suffix = suffix.lower()
    held = _held(member)
    # What stands beside images and labels in a shard is not looked at, be it what it may.
    if isinstance(held, str) and not (suffix in ("cls", "json") or _image_suffixes([suffix])):
        return
    key = str(path.with_name(stem))
    parts = samples.setdefault(key, {})
    if suffix in parts:
        raise _RefusedError(f"The shard {shard} has two members {key}.{suffix}; keys must be unique in a shard.")
    parts[suffix] = held


def _held(member: tarfile.TarInfo) -> _Held:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname[:80]!r}, which is not followed"
    if member.issparse():
        return "stored sparsely, which is not read"
    return (member.offset_data, member.size) if member.isreg() else "no file"


def _index(samples: dict[str, dict[str, _Held]], label_suffixes: Sequence[str]) -> TarIndex:
    images = np.full((len(samples), 2), -1, dtype=np.int64)
    labels = np.full((len(samples), 2), -1, dtype=np.int64)
    json, problems = set(), {}
    for i, parts in enumerate(samples.values()):
        found = _image_suffixes(parts)
        label = next((suffix for suffix in label_suffixes if suffix in parts), None)
        taken = [*found[:1], *([] if label is None else [label])]
        refused = [f"its .{suffix} is {parts[suffix]}" for suffix in taken if isinstance(parts[suffix], str)]
        if len(found) != 1:
            held = " ".join(f".{suffix}" for suffix in found or parts)
            problems[i] = f"{'several images' if found else 'no image'} among the sample's members: {held}"
        elif refused:
            problems[i] = refused[0]
        else:
            images[i] = parts[found[0]]
        if label is not None and not isinstance(parts[label], str):
            labels[i] = parts[label]
            if label == "json":
                json.add(i)
    suffixes = frozenset(suffix for parts in samples.values() for suffix in parts)
    return TarIndex(list(samples), images, labels, frozenset(json), suffixes, problems)


def _image_suffixes(parts: Iterable[str]) -> list[str]:
    # "jpg" before "seg.png", which belongs to another part of the same sample.
    whole = [suffix for suffix in parts if f".{suffix}" in SUFFIXES]
    return whole or [suffix for suffix in parts if f".{suffix.rpartition('.')[2]}" in SUFFIXES]
