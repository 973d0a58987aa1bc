"""Shards of a webdataset: tar files read at the places where their images lie."""

from __future__ import annotations

import json
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
from clip_lens_plugin.images import printable
from clip_lens_plugin.pictures import MOST_BYTES, UnreadableImageError, open_upright
from clip_lens_plugin.sources.source import GREATEST_LABEL, Sample, checked_label, fingerprint_of
from clip_lens_plugin.sources.tar_index import TarIndex, index_tar
from clip_lens_plugin.user_files import NotRegularError, UnreachableError, leads_out, reason_of, refuse_not_regular

MOST_LABEL_BYTES = 2**20
"""Of the member that holds a label."""


class ShardSource:
    """Samples of tar files, in their order; a name is the shard's name without ".tar", a slash and the key.

    The label is the integer in the ``.cls`` member, else ``label`` or ``cls`` in the ``.json`` member. No file stays
    open, so that the source can be used in forked and in spawned processes.
    """

    def __init__(self, urls: str | Path | Sequence[str | Path], classes: Sequence[str] | None = None) -> None:
        """Reads the headers of every shard.

        Args:
            urls: a folder that holds .tar files, one file, or several; or in brace notation,
                "shard-{000000..000009}.tar". Any address that fsspec opens will do for a file.
            classes: names of the classes; the shards hold none.

        Raises:
            FileNotFoundError: if a shard, or any in the folder, is missing.
            ValueError: if a shard is cut off, damaged, compressed or no tar file, a key is there twice, two shards
                have the same name, or there is no sample.
        """
        self._urls = _addresses(urls)
        self._shards = _shard_names(self._urls)
        indices = [_indexed(url) for url in self._urls]
        self._starts = np.cumsum([0] + [len(index.keys) for index in indices])
        if not self._starts[-1]:
            raise ValueError(f"No sample in {self.description}: no member has a key and a suffix, as in 000001.jpg.")
        self._indices = indices
        self._classes = None if classes is None else tuple(classes)

    @property
    def description(self) -> str:
        first, last = self._shards[0], self._shards[-1]
        return f"shard {first}" if len(self._shards) == 1 else f"{len(self._shards):,} shards from {first} to {last}"

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self._classes

    def __len__(self) -> int:
        return int(self._starts[-1])

    def name(self, position: int) -> str:
        shard, i = self._place(position)
        return f"{self._shards[shard]}/{printable(self._indices[shard].keys[i])}"

    def read(self, position: int) -> Sample:
        """The sample, opened from its shard's bytes.

        Raises:
            UnreadableImageError: if the sample has no image or several, it is damaged, or its label is no integer.
            UnreachableError: if the shard cannot be reached or has changed; the sample may well be readable later.
            ValueError: if the label is beyond the given classes.
        """
        shard, i = self._place(position)
        index = self._indices[shard]
        if i in index.problems:
            raise UnreadableImageError(index.problems[i])
        label = -1
        if index.labels[i, 1] >= 0:
            told = self._bytes(shard, index.labels[i], MOST_LABEL_BYTES)
            label = _from_json(told) if i in index.json else _from_text(told)
        label = checked_label(label, self._classes, self.name(position))
        return Sample(open_upright(BytesIO(self._bytes(shard, index.images[i], MOST_BYTES))), label)

    def fingerprint(self) -> str:
        sizes = (int(size) for index in self._indices for size in index.images[:, 1])
        names = (self.name(i) for i in range(len(self)))
        return fingerprint_of("shards", self._classes, zip(names, sizes, strict=True))

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


def _indexed(url: str) -> TarIndex:
    try:
        _refuse_not_regular(*url_to_fs(url))
        with fsspec.open(url, "rb") as file:
            return index_tar(file, url)  # pyright: ignore[reportArgumentType]
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


def _from_text(told: bytes) -> int:
    try:
        return _plausible(int(told.decode().strip()))
    except ValueError:
        raise _no_label(".cls", told.decode("utf-8", "replace")) from None


def _from_json(told: bytes) -> int:
    try:
        record = json.loads(told)
    except RecursionError:
        raise UnreadableImageError("its .json member is nested too deeply to be read") from None
    except ValueError:
        raise UnreadableImageError("its .json member is no JSON, so that its label is unknown") from None
    if not isinstance(record, dict):
        return -1
    given: Any = next((record[key] for key in ("label", "cls") if record.get(key) is not None), -1)
    if not isinstance(given, int) or isinstance(given, bool):
        raise _no_label(".json", str(given))
    try:
        return _plausible(given)
    except ValueError:
        raise _no_label(".json", str(given)) from None


def _plausible(label: int) -> int:
    if not -1 <= label <= GREATEST_LABEL:
        raise ValueError
    return label


def _no_label(member: str, given: str) -> UnreadableImageError:
    return UnreadableImageError(f"the label in its {member} member is {given[:40]!r}, expected an integer from -1 on")
