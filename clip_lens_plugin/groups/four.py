"""Two classes by two values of a cue: the four groups that a spurious cue is seen in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from clip_lens_plugin.arguments import is_whole
from clip_lens_plugin.groups.grouping import Groups
from clip_lens_plugin.labelling.names import few


@dataclass(frozen=True, eq=False)
class FourGroups:
    """The group of each of n images.

    Attributes:
        classes, cues: names of the two of each.
        pair: positions of the two classes among all.
        number: of each image 2 y + a, where y is its class and a its cue, 0 or 1 of the two; -1 where it has another.
    """

    classes: tuple[str, str]
    cues: tuple[str, str]
    pair: tuple[int, int]
    number: Int[np.ndarray, " n"]

    @property
    def names(self) -> tuple[str, ...]:
        """Class and cue of each of the four, the class first: (0, 0), (0, 1), (1, 0), (1, 1)."""
        return tuple(f"{name}, {cue}" for name in self.classes for cue in self.cues)

    def counts(self, rows: Any = slice(None)) -> Int[np.ndarray, "4"]:
        """How many of some images are in each."""
        number = self.number[rows]
        return np.bincount(number[number >= 0], minlength=4)

    def refuse_empty(self, rows: Any = slice(None), where: str = "") -> None:
        """Raises ValueError if a group has no image among some; the message names it."""
        empty = [name for name, n in zip(self.names, self.counts(rows), strict=True) if n == 0]
        if empty:
            raise ValueError(
                f"No image{where} is in {'the group' if len(empty) == 1 else 'the groups'} "
                f"{'; '.join(f'({name})' for name in empty)}: each of the two classes needs images with either cue."
            )


def four_groups(groups: Groups, pairs: Any = None) -> FourGroups:
    """The groups of two classes and two values of the cue; images of others are left out.

    Args:
        groups: the class and the cue of each image.
        pairs: ((class, class), (cue, cue)), by name or position; needed where there are more than two of either.

    Raises:
        ValueError: if there are more and none are given, there is no such class or cue, or a group is empty.
    """
    if pairs is None:
        _refuse_not_two(groups)
        pairs = ((0, 1), (0, 1))
    if not isinstance(pairs, Sequence) or isinstance(pairs, str) or len(pairs) != 2:
        raise ValueError(f"pairs are ((class, class), (cue, cue)), got {pairs!r:.80}.")
    classes = _two("class", pairs[0], groups.classes)
    cues = _two("cue", pairs[1], groups.cues)
    y = np.select([groups.labels == classes[0], groups.labels == classes[1]], [0, 1], -1)
    a = np.select([groups.values == cues[0], groups.values == cues[1]], [0, 1], -1)
    found = FourGroups(
        (groups.classes[classes[0]], groups.classes[classes[1]]),
        (groups.cues[cues[0]], groups.cues[cues[1]]),
        classes,
        np.where((y < 0) | (a < 0), -1, 2 * y + a),
    )
    found.refuse_empty()
    return found


def means_by_group(values: Float[np.ndarray, "n c"], number: Int[np.ndarray, " n"]) -> Float[np.ndarray, "4 c"]:
    """The mean over the images of each group, which none may lack."""
    return np.stack([values[number == group].mean(0) for group in range(4)])


def permuted(number: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """The groups with their cues permuted among the images of each class."""
    found = number.copy()
    for label in (0, 1):
        rows = np.flatnonzero(number // 2 == label)
        found[rows] = number[rng.permutation(rows)]
    return found


def _refuse_not_two(groups: Groups) -> None:
    for what, names in (("classes", groups.classes), ("values of the cue", groups.cues)):
        if len(names) != 2:
            raise ValueError(
                f"Two classes and two values of the cue are compared, and there are {len(names)} {what} "
                f"({few(names)}): pairs=((class, class), (cue, cue)) says which."
            )


def _two(what: str, given: Any, names: Sequence[str]) -> tuple[int, int]:
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        raise ValueError(f"Each of pairs holds two, got {given!r:.60} for the {what}.")
    found = [_place(what, each, names) for each in given]
    if found[0] == found[1]:
        raise ValueError(f"The two of a pair are two, got the {what} {names[found[0]]!r} twice.")
    return found[0], found[1]


def _place(what: str, given: Any, names: Sequence[str]) -> int:
    if isinstance(given, str) and given in names:
        return list(names).index(given)
    if not isinstance(given, str) and is_whole(given) and 0 <= int(given) < len(names):
        return int(given)
    raise ValueError(f"There is no {what} {given!r:.60}; there are {few(names, 20)}.")
