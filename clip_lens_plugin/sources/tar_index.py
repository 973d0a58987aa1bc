"""Where the images and labels of a webdataset shard lie, found without reading them."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from io import IOBase
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Int64

from clip_lens_plugin.pictures import SUFFIXES

_BLOCK = 512  # bytes; a tar file ends with blocks of zeros


@dataclass(frozen=True)
class TarIndex:
    """Samples of a shard in the order in which they begin.

    Attributes:
        keys: a sample's path up to the first dot of its base name.
        images: offset and size in bytes of the image; size -1 where ``problems`` says why there is none.
        labels: offset and size in bytes of the ``.cls``, else of the ``.json`` member; size -1 without either.
        json: positions of the samples whose label, if any, is in a ``.json`` member.
        problems: position to the reason why a sample has no image.
    """

    keys: list[str]
    images: Int64[np.ndarray, "n 2"]
    labels: Int64[np.ndarray, "n 2"]
    json: frozenset[int]
    problems: dict[int, str]


def index_tar(file: IOBase, name: str) -> TarIndex:
    """Reads the headers of an uncompressed tar file.

    Members with the same key make one sample, also where others stand between them. The suffix is all after the
    first dot of the base name; members without a key or suffix are passed over, as are links and folders.

    Args:
        file: seekable.
        name: of the shard, for messages.

    Raises:
        ValueError: if it is no plain tar file, is cut off or damaged, or two members have the same name.
    """
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                # Kept by tarfile, but needed no more; a shard can have very many.
                tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
                _add(samples, member, name)
            end = tar.offset
    except (tarfile.TarError, OSError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{_bad(name)}: {error}. {_EXPECTED}") from error
    # tarfile takes a damaged header, and a file that stops between two members, for the end.
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):
        raise ValueError(f"{_bad(name)} at byte {end:,}: the mark of the end is missing. {_EXPECTED}")
    return _index(samples)


_EXPECTED = "Expected a whole, uncompressed .tar file; fetch or write it anew."


def _bad(name: str) -> str:
    return f"The shard {name} is cut off, damaged or no tar file"


def _add(samples: dict[str, dict[str, tuple[int, int]]], member: tarfile.TarInfo, shard: str) -> None:
    if not member.isreg() or member.issparse():
        return
    path = PurePosixPath(member.name)
    stem, dot, suffix = path.name.partition(".")
    if not stem or not dot:
        return
    key = str(path.with_name(stem))
    parts = samples.setdefault(key, {})
    if suffix.lower() in parts:
        raise ValueError(f"The shard {shard} has two members {key}.{suffix.lower()}; keys must be unique in a shard.")
    parts[suffix.lower()] = (member.offset_data, member.size)


def _index(samples: dict[str, dict[str, tuple[int, int]]]) -> TarIndex:
    images = np.full((len(samples), 2), -1, dtype=np.int64)
    labels = np.full((len(samples), 2), -1, dtype=np.int64)
    json, problems = set(), {}
    for i, parts in enumerate(samples.values()):
        found = _image_suffixes(parts)
        if len(found) == 1:
            images[i] = parts[found[0]]
        else:
            held = " ".join(f".{suffix}" for suffix in found or parts)
            problems[i] = f"{'several images' if found else 'no image'} among the sample's members: {held}"
        if "cls" in parts:
            labels[i] = parts["cls"]
        elif "json" in parts:
            labels[i] = parts["json"]
            json.add(i)
    return TarIndex(list(samples), images, labels, frozenset(json), problems)


def _image_suffixes(parts: dict[str, tuple[int, int]]) -> list[str]:
    # "jpg" before "seg.png", which belongs to another part of the same sample.
    whole = [suffix for suffix in parts if f".{suffix}" in SUFFIXES]
    return whole or [suffix for suffix in parts if f".{suffix.rpartition('.')[2]}" in SUFFIXES]
