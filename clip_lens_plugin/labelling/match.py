"""Samples found by the names that a file of labels has for them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

_SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: _without_suffix(name),
    lambda name: name.rpartition("/")[2],
    lambda name: _without_suffix(name.rpartition("/")[2]),
)
"""The whole path, the path without its suffix, the file's name, that without its suffix."""


def matched(samples: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """Position of the sample that each name means, by the spelling that most have; None for no or several samples."""
    samples, names = [_plain(each) for each in samples], [_plain(each) for each in names]
    best: list[int | None] = [None] * len(names)
    most = 0
    for spelt in _SPELLINGS:
        keys = [spelt(each) for each in samples]
        times = Counter(keys)
        place = {key: i for i, key in enumerate(keys) if times[key] == 1}
        found = [place.get(spelt(each)) for each in names]
        n = sum(each is not None for each in found)
        if n > most:
            best, most = found, n
        if most == len(names):
            break
    return best


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/")).removeprefix("./")


def _without_suffix(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.rpartition('.')[0] or last}"
