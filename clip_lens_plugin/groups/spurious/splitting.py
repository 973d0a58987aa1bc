"""Three disjoint parts of the images: one for means, one to choose heads on, one to report on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from clip_lens_plugin.groups.four import FourGroups
from clip_lens_plugin.groups.grouping import PARTS, Part, refuse_twice

SHARES = (0.2, 0.3)
"""Of each group that means are taken of and heads are chosen on, where parts are drawn; the rest is reported."""

Rows = dict[str, np.ndarray]
"""The rows of each part, in order."""


def parted(four: FourGroups, given: Sequence[Part] | None, names: Sequence[str] | None, seed: int) -> Rows:
    """The rows of "means", "validation" and "test", each of which has images of all four groups.

    Args:
        four: the group of each row; rows without one are in no part.
        given: part of each row, "" for none; drawn from the seed, in every group alike, if not given.
        names: identity of each row's image; rows are told apart by their numbers if there are none.
        seed: of the draw.

    Raises:
        ValueError: if an image occurs in two rows, or a part lacks a group; the message names them.
    """
    used = np.flatnonzero(four.number >= 0)
    identities = [str(row) if names is None else names[row] for row in used.tolist()]
    refuse_twice(identities)
    rows = _drawn(four, seed) if given is None else _given(used, given)
    for part in PARTS:
        four.refuse_empty(rows[part], f" of the {part} split")
    identity = dict(zip(used.tolist(), identities, strict=True))
    of_parts = [{identity[row] for row in rows[part].tolist()} for part in PARTS]
    assert sum(map(len, of_parts)) == len(set().union(*of_parts)), "an image is in two of the three splits"
    return rows


def _given(used: Int[np.ndarray, " r"], given: Sequence[Part]) -> Rows:
    parts = np.array(given, dtype=object)[used]
    return {part: used[parts == part] for part in PARTS}


def _drawn(four: FourGroups, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    few = [(name, n) for name, n in zip(four.names, four.counts().tolist(), strict=True) if n < len(PARTS)]
    if few:
        raise ValueError(
            f"The group ({few[0][0]}) has {few[0][1]} images, and each of the three splits needs one: give more images."
        )
    for group in range(4):
        rows = rng.permutation(np.flatnonzero(four.number == group))
        first, second = (max(1, round(share * len(rows))) for share in SHARES)
        for part, chosen in zip(PARTS, np.split(rows, [first, first + second]), strict=True):
            found[part].append(chosen)
    return {part: np.sort(np.concatenate(each)) for part, each in found.items()}
