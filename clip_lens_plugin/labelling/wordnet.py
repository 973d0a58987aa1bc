"""WordNet ids (n01440764) and their words, and ImageNet's 1,000 classes in their order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

from open_clip import IMAGENET_CLASSNAMES

_ID = re.compile(r"n\d{8}")
_ID_AND_WORDS = re.compile(r"n\d{8}[-_ .]+(.*\w.*)")
_NUMBERED = re.compile(r"(.+) \(\d+\)")


def is_wordnet_id(name: str) -> bool:
    """Whether it has the form of a noun's id, "n" and eight digits."""
    return _ID.fullmatch(name) is not None


@cache
def imagenet_ids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes, in their order, as timm ships them."""
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())


@cache
def imagenet_names() -> tuple[str, ...]:
    """open_clip's names of the 1,000 classes; of two that are equal the second has a number, "missile (2)"."""
    return distinct(IMAGENET_CLASSNAMES)


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names; one that occurs again has the number of its occurrence behind it."""
    met: Counter[str] = Counter()
    found = []
    for name in names:
        met[name] += 1
        found.append(name if met[name] == 1 else f"{name} ({met[name]})")
    return tuple(found)


@cache
def imagenet_positions() -> dict[str, int]:
    """Position of a class of ImageNet by its id, its name here, and its words in WordNet if no other has them."""
    lemmas = _lemmas()
    words = [lemmas[each] for each in imagenet_ids()]
    positions = {word: i for i, word in enumerate(words) if words.count(word) == 1}
    positions |= {name: i for i, name in enumerate(imagenet_names())}
    return positions | {each: i for i, each in enumerate(imagenet_ids())}


def worded(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with words in the place of WordNet ids that are known; ids of which two get the same words keep both.

    The words are open_clip's for ImageNet's 1,000 classes and the first of WordNet's for others. What stands behind an
    id in a name ("n02085620-Chihuahua") is taken for its words.
    """
    if not any(_ID.match(name) for name in names):
        return tuple(names)
    found = [_words(name) for name in names]
    times = Counter(found)
    return tuple(word if times[word] == 1 else f"{word} ({name})" for name, word in zip(names, found, strict=True))


def text_of(name: str) -> str:
    """What a text says of a class: an id's words, and no number behind a name of ImageNet that occurs twice."""
    word = _words(name)
    numbered = _NUMBERED.fullmatch(word)
    return numbered.group(1) if numbered and word in imagenet_names() else word


def _words(name: str) -> str:
    behind = _ID_AND_WORDS.fullmatch(name)
    if behind:
        return behind.group(1)
    if not is_wordnet_id(name):
        return name
    if name in imagenet_ids():
        return imagenet_names()[imagenet_ids().index(name)]
    return _lemmas().get(name, name).split(",")[0]


@cache
def _lemmas() -> dict[str, str]:
    """The words of every id in ImageNet, with its 21,000 classes."""
    from timm.data.imagenet_info import ImageNetInfo

    subsets = [ImageNetInfo(name) for name in ("imagenet-21k-goog", "imagenet-1k")]
    return {each: info.label_name_to_description(each) for info in subsets for each in info.label_names()}
