"""How far cues that say nothing move each component: what a cue effect stands beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from clip_lens_plugin.groups.four import permuted

TURNS_AT_ONCE = 16
"""Permutations whose effects are one product."""


@dataclass(frozen=True, eq=False)
class CueChance:
    """The cue effects of cues that were permuted among the images of each class; float64, in cosine units.

    Attributes:
        turns: how many permutations; the other values are NaN if there were none.
        typical: the root of the mean square of each component's effect over the permutations [c].
        p: of each component, (1 + permutations in which its effect is as great, either way) / (turns + 1) [c].
        family_p: the same of the greatest effect of any component of its part, such as of any head [c].
    """

    turns: int
    typical: Float[np.ndarray, " c"]
    p: Float[np.ndarray, " c"]
    family_p: Float[np.ndarray, " c"]

    @classmethod
    def of(
        cls,
        values: Float[np.ndarray, "n c"],
        number: Int[np.ndarray, " n"],
        parts: Sequence[str],
        cue: Float[np.ndarray, " c"],
        turns: int,
        seed: int,
    ) -> CueChance:
        """Beside the effects of the true cues.

        Args:
            values: what each component adds to each image's margin.
            number: of each image 2 y + a, -1 where it is of no group.
            parts: of each component.
            cue: its effect.
            turns: permutations.
            seed: of them.
        """
        if turns == 0:
            none = np.full(values.shape[1], np.nan)
            return cls(0, none, none.copy(), none.copy())
        rng = np.random.default_rng(seed)
        squares, own, family = np.zeros(len(cue)), np.zeros(len(cue)), np.zeros(len(cue))
        of_part = [np.array([each == part for each in parts]) for part in dict.fromkeys(parts)]
        for start in range(0, turns, TURNS_AT_ONCE):
            drawn = range(start, min(turns, start + TURNS_AT_ONCE))
            effects = np.stack([_weights(permuted(number, rng)) for _ in drawn]) @ values
            squares += (effects**2).sum(0)
            own += (np.abs(effects) >= np.abs(cue)).sum(0)
            for which in of_part:
                greatest = np.abs(effects[:, which]).max(1)
                family[which] += (greatest[:, None] >= np.abs(cue[which])).sum(0)
        return cls(turns, np.sqrt(squares / turns), (1 + own) / (turns + 1), (1 + family) / (turns + 1))


def _weights(number: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """What each image counts in the cue effect ½ (μ01 + μ11 − μ00 − μ10)."""
    counts = np.bincount(number[number >= 0], minlength=4)
    of_group = np.array([-0.5, 0.5, -0.5, 0.5]) / counts
    return np.where(number < 0, 0.0, of_group[number])
