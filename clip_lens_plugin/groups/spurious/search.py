"""Heads found whose removal helps the worst group most: one after the other, among those that answer to the cue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from clip_lens_plugin.groups.effects import cue_of
from clip_lens_plugin.groups.four import means_by_group

LEAST_GAIN = 0.002
"""Of the worst group's share of right answers; further heads that give less are not removed."""


@dataclass(frozen=True)
class Limits:
    """How far the search goes.

    Attributes:
        candidates: heads of the greatest cue effect that are tried.
        most: heads that are removed together at most.
    """

    candidates: int
    most: int


@dataclass(frozen=True, eq=False)
class HeadMargins:
    """What a search reads of some images; float64, in cosine units.

    Attributes:
        heads: what each head adds to the margin [n, c], all heads in one row.
        whole: the margin [n].
        number: group of each image, 2 y + a [n].
    """

    heads: Float[np.ndarray, "n c"]
    whole: Float[np.ndarray, " n"]
    number: Int[np.ndarray, " n"]


def chosen_heads(seen: HeadMargins, means: Float[np.ndarray, " c"], limits: Limits) -> list[int]:
    """Heads whose replacement by their mean raises the worst group's share of right answers, in the order chosen.

    Of the heads of the greatest cue effect, in the direction in which the cue moves the whole margin, one after the
    other is taken: that which raises the worst group most, of equal ones that which raises the mean over groups most.
    Of these the first are kept that bring the worst group as far as any number of them does, within
    :data:`LEAST_GAIN`; so a head that helps only together with a later one is not missed.

    Args:
        seen: the images that heads are chosen on.
        means: what replaces each head [c].
        limits: of the search.
    """
    cue = cue_of(means_by_group(seen.heads, seen.number))
    towards = np.sign(cue_of(means_by_group(seen.whole[:, None], seen.number))[0])
    candidates = np.argsort(-towards * cue, kind="stable")[: limits.candidates].tolist()
    change = means[candidates] - seen.heads[:, candidates]
    score, chosen = seen.whole.copy(), []
    worst_after = [float(shares_right(score[:, None], seen.number).min())]
    for _ in range(min(limits.most, len(candidates))):
        left = [at for at in range(len(candidates)) if at not in chosen]
        scores = score[:, None] + change[:, left]
        shares = shares_right(scores, seen.number)
        at = int(np.lexsort((-shares.mean(0), -shares.min(0)))[0])
        worst_after.append(float(shares[:, at].min()))
        chosen.append(left[at])
        score = scores[:, at]
    enough = max(worst_after) - LEAST_GAIN
    kept = next(n for n, worst in enumerate(worst_after) if worst >= enough)
    return [candidates[at] for at in chosen[:kept]]


def without(seen: HeadMargins, means: Float[np.ndarray, " c"], heads: Sequence[int]) -> Float[np.ndarray, " n"]:
    """The margins of the sum with some heads replaced by their means, the norm of the embedding frozen."""
    chosen = list(heads)
    return seen.whole + (means[chosen] - seen.heads[:, chosen]).sum(1)


def counts_right(scores: Float[np.ndarray, "n s"], number: Int[np.ndarray, " n"]) -> Int[np.ndarray, "4 s"]:
    """How many images of each group have the right answer, for several margins of each image."""
    right = _right(scores, number)
    return np.stack([right[number == group].sum(0) for group in range(4)])


def shares_right(scores: Float[np.ndarray, "n s"], number: Int[np.ndarray, " n"]) -> Float[np.ndarray, "4 s"]:
    """The same as a share of each group, 0 to 1."""
    return counts_right(scores, number) / np.bincount(number, minlength=4)[:, None]


def _right(scores: Float[np.ndarray, "n s"], number: Int[np.ndarray, " n"]) -> np.ndarray:
    return (scores > 0) == (number >= 2)[:, None]
