"""How many images of each group get the right answer, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from clip_lens_plugin.groups.spurious.search import counts_right
from clip_lens_plugin.statistics.intervals import Interval

Stage = Literal["before", "direct", "class_token", "total", "ceiling"]
STAGES: dict[Stage, str] = {
    "before": "nothing removed",
    "direct": "heads removed, direct effect",
    "class_token": "heads removed at the class token",
    "total": "heads removed, total effect",
    "ceiling": "nothing removed, texts without the cue",
}
"""What was measured, in words."""


@dataclass(frozen=True)
class GroupAccuracy:
    """Shares of right answers, 0 to 1, with 95 % Wilson intervals.

    Attributes:
        stage: one of :data:`STAGES`.
        groups: of each group.
        average: of all images.
        counts: images of each group.
    """

    stage: Stage
    groups: tuple[Interval, ...]
    average: Interval
    counts: tuple[int, ...]

    @classmethod
    def of(cls, stage: Stage, margins: Float[np.ndarray, " n"], number: Int[np.ndarray, " n"]) -> GroupAccuracy:
        """The accuracy of each group, from the margin and the group of each image."""
        right = counts_right(margins[:, None], number)[:, 0].tolist()
        counts = np.bincount(number, minlength=4).tolist()
        groups = tuple(Interval.of_share(r, n) for r, n in zip(right, counts, strict=True))
        return cls(stage, groups, Interval.of_share(sum(right), sum(counts)), tuple(counts))

    @property
    def worst(self) -> Interval:
        """The group with the lowest share, the first of several."""
        return min(self.groups, key=lambda each: each.value)
