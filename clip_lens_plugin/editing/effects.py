"""What edits do: shares of right answers before, by the direct effect alone, and by the edited model itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from clip_lens_plugin.model.edits import Edit
from clip_lens_plugin.shown import Tabled
from clip_lens_plugin.statistics.intervals import Interval

Kind = Literal["all", "class", "group"]
Stage = Literal["before", "direct", "after"]

CHANCE = 0.05
"""Direct and total effect part where their difference had a smaller p."""


@dataclass(frozen=True)
class Share:
    """Shares of right answers on the same images, with 95 % Wilson intervals.

    Attributes:
        kind: "all" images, or those of one "class" or "group".
        name: of the class or group.
        n: images.
        before: of the model before the edits.
        direct: with the change of the edited heads' own contributions alone.
        after: of the edited model: the total effect.
        p: that direct and after differ as much by chance: McNemar's exact test, times the number of shares of the kind.
    """

    kind: Kind
    name: str
    n: int
    before: Interval
    direct: Interval
    after: Interval
    p: float

    @property
    def parts(self) -> bool:
        """Whether direct and total effect part by more than chance."""
        return self.p < CHANCE

    @classmethod
    def of(cls, kind: Kind, name: str, right: dict[Stage, Bool[np.ndarray, " n"]], tests: int) -> Share:
        """From which answers are right; ``tests`` is how many shares of the kind there are."""
        from scipy.stats import binomtest  # Half a second to import.

        n = len(right["before"])
        won = int((right["after"] & ~right["direct"]).sum())
        lost = int((right["direct"] & ~right["after"]).sum())
        p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
        shares = {stage: Interval.of_share(int(each.sum()), n) for stage, each in right.items()}
        return cls(kind, name, n, shares["before"], shares["direct"], shares["after"], min(1.0, tests * p))


@dataclass(frozen=True)
class EditEffects(Tabled):
    """What a model's edits do to a zero-shot classifier and to retrieval; made by :func:`edit_effects`.

    Attributes:
        edits: that were measured.
        n: images.
        shares: of all images, of each class and of each group; empty without a classifier.
        neighbours: how many nearest images of each image were looked at.
        neighbours_kept: share of them that are among as many nearest after the edits; None for one image.
    """

    edits: tuple[Edit, ...]
    n: int
    shares: tuple[Share, ...]
    neighbours: int
    neighbours_kept: float | None

    @property
    def accuracy(self) -> Share | None:
        """Of all images with a known class; None without a classifier."""
        return next((share for share in self.shares if share.kind == "all"), None)

    def of_kind(self, kind: Kind) -> list[Share]:
        """The shares of a ``kind``, classes or groups, in their order."""
        return [share for share in self.shares if share.kind == kind]

    def worst(self, kind: Kind, stage: Stage) -> Share | None:
        """The one of a ``kind`` with the lowest share at a ``stage``, the first of several; None if there is none."""
        return min(self.of_kind(kind), key=lambda share: getattr(share, stage).value, default=None)

    def parting(self) -> list[Share]:
        """Where direct and total effect part by more than chance."""
        return [share for share in self.shares if share.parts]

    def to_dataframe(self) -> pd.DataFrame:
        """One row per share: ``kind``, ``name``, ``n``, ``p``, and ``before``, ``direct`` and ``after`` (0 to 1) with
        their intervals' ends, ``before_low``, ``before_high`` and so on.
        """
        rows = []
        for share in self.shares:
            row: dict[str, str | int | float] = {"kind": share.kind, "name": share.name, "n": share.n}
            for stage in ("before", "direct", "after"):
                found = getattr(share, stage)
                row |= {stage: found.value, f"{stage}_low": found.low, f"{stage}_high": found.high}
            rows.append({**row, "p": share.p})
        names = [f"{stage}{end}" for stage in ("before", "direct", "after") for end in ("", "_low", "_high")]
        return pd.DataFrame(rows, columns=["kind", "name", "n", *names, "p"])

    def __str__(self) -> str:
        said = [f"{len(self.edits)} {'edit' if len(self.edits) == 1 else 'edits'} on {self.n:,} images"]
        lowest = {kind: (self.worst(kind, "before"), self.worst(kind, "after")) for kind in ("class", "group")}
        if self.accuracy is not None:
            said.append(f"accuracy {self.accuracy.before.value:.3f} to {self.accuracy.after.value:.3f}")
        for kind, (before, after) in lowest.items():
            if before is not None and after is not None:
                said.append(f"worst {kind} {before.before.value:.3f} to {after.after.value:.3f}")
        if self.neighbours_kept is not None:
            said.append(f"{100 * self.neighbours_kept:.1f} % of the {self.neighbours} nearest images kept")
        if self.parting():
            said.append("direct and total effect part")
        return "; ".join(said)


def shares_of(
    right: dict[Stage, Bool[np.ndarray, " n"]],
    labels: Int[np.ndarray, " n"],
    classes: tuple[str, ...],
    groups: list[str | None] | None,
) -> tuple[Share, ...]:
    """The shares of all images whose class is known, of each class that has one, and of each group.

    Args:
        right: which answers are right at each stage.
        labels: −1 where not known.
        classes: their names.
        groups: of each image, None for none.
    """
    known = labels >= 0
    chosen: dict[Kind, list[tuple[str, Bool[np.ndarray, " n"]]]] = {"all": [("all images", known)]}
    chosen["class"] = [(name, labels == i) for i, name in enumerate(classes) if (labels == i).any()]
    if groups is not None:
        names = np.array(["" if group is None else group for group in groups], dtype=object)
        given = np.array([group is not None for group in groups])
        of_groups = [(name, known & given & (names == name)) for name in dict.fromkeys(names[given])]
        chosen["group"] = [(name, rows) for name, rows in of_groups if rows.any()]
    return tuple(
        Share.of(kind, name, {stage: each[rows] for stage, each in right.items()}, len(parts))
        for kind, parts in chosen.items()
        for name, rows in parts
    )
