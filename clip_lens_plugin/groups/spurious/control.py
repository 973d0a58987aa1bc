"""What chance gives: random heads in the place of the chosen ones, and heads chosen by cue labels that say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from clip_lens_plugin.decisions.removal import random_others
from clip_lens_plugin.groups.four import permuted
from clip_lens_plugin.groups.spurious.search import HeadMargins, Limits, chosen_heads, shares_right, without


@dataclass(frozen=True, eq=False)
class Control:
    """The worst group of the test images where heads were found by chance.

    Attributes:
        worst: share of right answers in the worst group, of each turn.
        p: share of turns, ours among them, that are as good as ours: (1 + turns ≥ ours) / (turns + 1); NaN where none
            was made.
    """

    worst: Float[np.ndarray, " s"]
    p: float

    @classmethod
    def of(cls, worst: Sequence[float], ours: float) -> Control:
        """What the turns give beside our own share."""
        found = np.array(worst, dtype=np.float64)
        return cls(found, float((1 + (found >= ours).sum()) / (1 + len(found))) if len(found) else float("nan"))


def random_heads(
    test: HeadMargins,
    means: Float[np.ndarray, " c"],
    heads: Sequence[tuple[int, int]],
    shape: tuple[int, int],
    sets: int,
    seed: int,
) -> list[float]:
    """The worst group without random sets of as many other heads, of the same layers as far as these have others.

    Args:
        test: the images that are reported on.
        means: what replaces each head.
        heads: the chosen ones, which no set holds.
        shape: layers, and heads of a layer.
        sets: how many.
        seed: of the draws.
    """
    drawn = random_others(heads, *shape, sets, seed) if heads else []
    return [worst_without(test, means, [layer * shape[1] + head for layer, head in each]) for each in drawn]


def permuted_cues(
    validation: HeadMargins, test: HeadMargins, means: Float[np.ndarray, " c"], limits: Limits, turns: int, seed: int
) -> list[float]:
    """The worst group without the heads that the same search chooses by cues that were permuted.

    They are permuted among the validation images of each class, so that groups keep their sizes; the groups that are
    reported are the true ones.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(turns):
        turned = replace(validation, number=permuted(validation.number, rng))
        found.append(worst_without(test, means, chosen_heads(turned, means, limits)))
    return found


def worst_without(seen: HeadMargins, means: Float[np.ndarray, " c"], heads: Sequence[int]) -> float:
    """The worst group's share of right answers with some heads replaced by their means."""
    return float(shares_right(without(seen, means, heads)[:, None], seen.number).min())
