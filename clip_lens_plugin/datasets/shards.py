"""Shards of a webdataset: tar files read at the places where their images lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import braceexpand
import fsspec
import numpy as np
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from clip_lens_plugin.arguments import checked_index
from clip_lens_plugin.datasets.source import Sample, checked_label, fingerprint_of
from clip_lens_plugin.datasets.tar_index import LABEL_SUFFIXES, TarIndex, index_tar
from clip_lens_plugin.files.given import NotRegularError, UnreachableError, leads_out, reason_of, refuse_not_regular
from clip_lens_plugin.hints import given_as
from clip_lens_plugin.images.pictures import MOST_BYTES, UnreadableImageError, open_upright
from clip_lens_plugin.labelling.members import classes_in, from_json, from_text, keys_of, number_in, record_of
from clip_lens_plugin.labelling.names import classes_note, few
from clip_lens_plugin.labelling.wordnet import worded
from clip_lens_plugin.plain_text import printable

MOST_LABEL_BYTES = 2**20
"""Of the member that holds a label."""
MOST_SUFFIXES = 12
"""So many kinds of members are named in a message."""
MOST_TRIED = 20
"""So many samples are looked at for a first label that can be read."""


class ShardSource:
    """Samples of tar files, in their order; a name is the shard's name without ".tar", a slash and the key.

    The label is what stands in the ``.cls``, ``.cls.txt`` or ``.label`` member, else under ``label``, ``cls`` or the
    only key of that kind in the ``.json`` member: a whole number, or a name of a class. No file stays open, so that the
    source can be used in forked and in spawned processes.
    """

    def __init__(
        self,
        urls: str | Path | Sequence[str | Path],
        classes: Sequence[str] | None = None,
        label_column: str | None = None,
        labelled: bool = True,
    ) -> None:
        """Reads the headers of every shard; where labels are names and no classes are given, all labels too.

        Args:
            urls: a folder that holds .tar files, one file, or several; or in brace notation,
                "shard-{000000..000009}.tar". Any address that fsspec opens will do for a file.
            classes: names of the classes in the order of their numbers; where the shards hold names, those, sorted, if
                not given.
            label_column: suffix of the members, or key in the ``.json`` members, that labels are in.
            labelled: whether to look for labels at all.

        Raises:
            FileNotFoundError: if a shard, or any in the folder, is missing.
            ValueError: if a shard is cut off, damaged, compressed or no tar file, a key is there twice, two shards
                have the same name, there is no sample, or it is not plain what its label is.
        """
        self._urls = _addresses(urls)
        self._shards = _shard_names(self._urls)
        suffixes = LABEL_SUFFIXES if label_column is None else (label_column.removeprefix(".").lower(), "json")
        indices = [index_shard(url, suffixes if labelled else ()) for url in self._urls]
        self._starts = np.cumsum([0] + [len(index.keys) for index in indices])
        if not self._starts[-1]:
            raise ValueError(f"No sample in {self.description}: no member has a key and a suffix, as in 000001.jpg.")
        self._indices = indices
        self._given_names = None if classes is None else tuple(classes)
        self._keys: tuple[str, ...] = ()
        self._notes = self._find_labels(label_column)
        self._classes = None if self._given_names is None else worded(self._given_names)
        self._code = None if self._given_names is None else {name: i for i, name in enumerate(self._given_names)}

    @property
    def description(self) -> str:
        """The shard, or how many there are from the first to the last."""
        first, last = self._shards[0], self._shards[-1]
        return f"shard {first}" if len(self._shards) == 1 else f"{len(self._shards):,} shards from {first} to {last}"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, in words where they are WordNet ids; None if the labels have none."""
        return self._classes

    @property
    def label_notes(self) -> tuple[str, ...]:
        """What is taken for a class."""
        return self._notes

    def __len__(self) -> int:
        return int(self._starts[-1])

    def name(self, position: int) -> str:
        """The shard's name and the key in it of the sample at a position."""
        shard, i = self._place(position)
        return f"{self._shards[shard]}/{printable(self._indices[shard].keys[i])}"

    def read(self, position: int) -> Sample:
        """The sample at a position, opened from its shard's bytes.

        Raises:
            UnreadableImageError: if the sample has no image or several, it is damaged, or its label is no integer.
            UnreachableError: if the shard cannot be reached or has changed; the sample may well be readable later.
            ValueError: if the label is beyond the given classes.
        """
        shard, i = self._place(position)
        index = self._indices[shard]
        if i in index.problems:
            raise UnreadableImageError(index.problems[i])
        label = checked_label(number_in(self._label(shard, i), self._code), self._classes, self.name(position))
        return Sample(open_upright(BytesIO(self._bytes(shard, index.images[i], MOST_BYTES))), label)

    def fingerprint(self) -> str:
        """Of the classes, and the name and size in bytes of every sample, in their order."""
        sizes = (int(size) for index in self._indices for size in index.images[:, 1])
        names = (self.name(i) for i in range(len(self)))
        return fingerprint_of("shards", self._given_names, zip(names, sizes, strict=True))

    def _label(self, shard: int, i: int) -> int | str | None:
        """What stands for the sample's label; None where nothing does."""
        index = self._indices[shard]
        if index.labels[i, 1] < 0:
            return None
        content = self._bytes(shard, index.labels[i], MOST_LABEL_BYTES)
        return from_json(content, self._keys) if i in index.json else from_text(content)

    def _find_labels(self, wanted: str | None) -> tuple[str, ...]:
        """Settles keys and classes by the first label, and says what was found."""
        with_labels = [(s, int(i)) for s, index in enumerate(self._indices) for i in _labelled(index)]
        suffixes = sorted({suffix for index in self._indices for suffix in index.suffixes})
        members = " ".join(f".{suffix}" for suffix in suffixes[:MOST_SUFFIXES])
        if not with_labels:
            if wanted is not None:
                raise ValueError(
                    f"There is no {given_as('label_column')} {wanted!r}: the samples' members are {members}."
                )
            return (
                f"no labels: the samples' members are {members}; {given_as('label_column')} names one that holds them",
            )
        first, origin = self._first(with_labels, wanted)
        if first is None:
            return (f"no labels: no key of the .json members is known to hold them: {origin}",)
        if isinstance(first, str) and self._given_names is None:
            self._given_names = classes_in(self._label_or_none(*each) for each in with_labels)
        if self._given_names is None:
            return (f"labels from {origin}: whole numbers without names",)
        return (classes_note(worded(self._given_names), origin if isinstance(first, str) else "the given list"),)

    def _first(self, with_labels: list[tuple[int, int]], wanted: str | None) -> tuple[int | str | None, str]:
        """The first label that can be read and where it stands; None and the keys there are if it has no key."""
        problem: tuple[str, UnreadableImageError] | None = None
        for shard, i in with_labels[:MOST_TRIED]:
            try:
                if i not in self._indices[shard].json:
                    return self._label(shard, i), "the label members"
                record = record_of(self._bytes(shard, self._indices[shard].labels[i], MOST_LABEL_BYTES))
                self._keys = keys_of(record, wanted)
                origin = f"{' or '.join(self._keys)} in the .json members"
                return (self._label(shard, i), origin) if self._keys else (None, few([*record], 20))
            except UnreadableImageError as error:
                problem = problem or (self.name(int(self._starts[shard]) + i), error)
        name, error = problem  # pyright: ignore[reportGeneralTypeIssues]
        raise ValueError(f"The labels in {self.description} are not plain; of sample {name!r}: {error}.") from error

    def _label_or_none(self, shard: int, i: int) -> int | str | None:
        try:
            return self._label(shard, i)
        except UnreadableImageError:  # Listed with its sample when that is read.
            return None

    def _place(self, position: int) -> tuple[int, int]:
        position = checked_index("sample", position, len(self))
        shard = int(np.searchsorted(self._starts, position, side="right")) - 1
        return shard, int(position - self._starts[shard])

    def _bytes(self, shard: int, span: np.ndarray, most: int) -> bytes:
        offset, size = map(int, span)
        if not size:
            return b""
        if size > most:
            raise UnreadableImageError(f"a member of {size:,} bytes, at most {most:,} are read")
        url = self._urls[shard]
        try:
            files, path = url_to_fs(url)
            _refuse_not_regular(files, path)
            held = files.cat_file(path, start=offset, end=offset + size)
        except Exception as error:  # each kind of file system has errors of its own
            raise UnreachableError(f"the shard {url} cannot be read: {reason_of(error)}") from error
        if len(held) != size:
            raise UnreachableError(f"the shard {url} is shorter than it was when the run began; bring the old one back")
        return held


def _addresses(urls: str | Path | Sequence[str | Path]) -> list[str]:
    if not isinstance(urls, str | Path):
        listed = [address for each in urls for address in _addresses(each)]
        if not listed:
            raise ValueError("ShardSource was given an empty list; expected one or more tar files.")
        return listed
    text = os.fspath(urls)
    if _is_remote(text):
        return _expanded(text)
    if Path(text).is_dir():
        folder = Path(text).resolve()
        found = sorted(folder.glob("*.tar"))
        if not found:
            raise FileNotFoundError(f"The folder {text} holds no .tar files.")
        for path in found:
            if path.is_symlink() and leads_out(path, folder):
                raise ValueError(
                    f"{path.name} in {text} is a link that leads out of that folder, to {path.resolve()}. Give the "
                    f"shards by their own paths: ShardSource([...])."
                )
        return [path.as_posix() for path in found]
    # Absolute, because a worker process may start elsewhere.
    return [os.path.abspath(path) for path in ([text] if Path(text).exists() else _expanded(text))]


def _is_remote(text: str) -> bool:
    return "://" in text or "::" in text


def _expanded(text: str) -> list[str]:
    try:
        return list(braceexpand.braceexpand(text))
    except ValueError as error:
        raise ValueError(f"Braces do not match in {text!r}; expected as in 'shard-{{000000..000009}}.tar'.") from error


def _shard_names(urls: list[str]) -> list[str]:
    seen: dict[str, str] = {}
    for url in urls:
        name = printable(url.rpartition("/")[2]).removesuffix(".tar")
        if name in seen:
            raise ValueError(
                f"{seen[name]} and {url} have the same name, so that their samples would have; rename one."
            )
        seen[name] = url
    return list(seen)


def _labelled(index: TarIndex) -> np.ndarray:
    """Positions of the samples with a member that may hold the label [m]."""
    return np.flatnonzero(index.labels[:, 1] >= 0)


def index_shard(url: str, label_suffixes: Sequence[str] = ()) -> TarIndex:
    """Where the samples of a shard lie.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, cut off, or no file.
        UnreachableError: if it cannot be read.
    """
    try:
        _refuse_not_regular(*url_to_fs(url))
        with fsspec.open(url, "rb") as file:
            return index_tar(file, url, label_suffixes)  # pyright: ignore[reportArgumentType]
    except NotRegularError as error:
        raise ValueError(f"The shard {url} is {error}.") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(f"There is no shard {url}.") from error
    except ImportError as error:
        raise ValueError(f"The shard {url} cannot be opened: {error}") from error
    except (ValueError, OSError):
        raise
    except Exception as error:  # each kind of file system has errors of its own
        raise UnreachableError(f"The shard {url} cannot be reached: {reason_of(error)}") from error


def _refuse_not_regular(files: Any, path: str) -> None:
    if isinstance(files, LocalFileSystem) and not os.path.isdir(path):
        refuse_not_regular(path)
