"""What removing the heads of a spurious cue does to each group, beside what chance does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clip_lens_plugin.groups.effects import GroupEffects
from clip_lens_plugin.groups.spurious.accuracy import STAGES, GroupAccuracy, Stage
from clip_lens_plugin.groups.spurious.control import Control
from clip_lens_plugin.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class SpuriousHeads(Shown):
    """Heads that carry a spurious cue, and the groups' shares of right answers without them; all on test images.

    Attributes:
        heads: (layer, head) pairs in the order chosen; empty if no head helped.
        shares: before, by the direct effect, where the model was run at the class token alone and by the total effect,
            and of texts without the cue where these were given.
        random: the worst group without random sets of as many other heads of the same layers, by the direct effect.
        permuted: the worst group without the heads that the same search chose by permuted cues.
        effects: of every component, on the validation images, which the search reads.
        rows: of the data, in each of the splits "means", "validation" and "test".
        drawn: whether the splits were drawn.
        note: why there is no more, in a sentence.
    """

    heads: tuple[tuple[int, int], ...]
    shares: tuple[GroupAccuracy, ...]
    random: Control
    permuted: Control
    effects: GroupEffects
    rows: Mapping[str, tuple[int, ...]]
    drawn: bool
    note: str = ""

    @property
    def groups(self) -> tuple[str, ...]:
        """Class and cue of each group."""
        return self.effects.groups

    def share(self, stage: Stage) -> GroupAccuracy | None:
        """What was measured at a ``stage``; None if it was not.

        Args:
            stage: one of :data:`~clip_lens_plugin.groups.spurious.accuracy.STAGES`.
        """
        return next((each for each in self.shares if each.stage == stage), None)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per stage and group: stage, kind ("group", "worst" or "average"), group (its class and cue), n,
        accuracy, low and high (the ends of its 95 % Wilson interval).

        Of what chance gives, stages "random" and "permuted", there is one row each: n turns, the mean of their worst
        groups, and the range that 95 % of them lie in.
        """
        rows = []
        for each in self.shares:
            of_groups = list(zip(self.groups, each.counts, each.groups, strict=True))
            at = int(np.argmin([share.value for share in each.groups]))
            shares = [
                *(("group", *of_group) for of_group in of_groups),
                ("worst", *of_groups[at]),
                ("average", "", sum(each.counts), each.average),
            ]
            rows += [
                (each.stage, kind, group, n, share.value, share.low, share.high) for kind, group, n, share in shares
            ]
        for stage, turns in (("random", self.random.worst), ("permuted", self.permuted.worst)):
            if len(turns):
                rows.append((stage, "worst", "", len(turns), turns.mean(), *np.quantile(turns, (0.025, 0.975))))
        return pd.DataFrame(rows, columns=["stage", "kind", "group", "n", "accuracy", "low", "high"])

    @property
    def removed(self) -> str:
        """The heads in words."""
        return ", ".join(f"L{layer}H{head}" for layer, head in self.heads) or "none"

    @property
    def about_splits(self) -> str:
        """What was taken of which images, in a sentence."""
        n = {part: f"{len(rows):,}" for part, rows in self.rows.items()}
        how = "drawn at random in every group" if self.drawn else "as given"
        return (
            f"Means are of {n['means']} images, heads chosen on {n['validation']}, and shares of {n['test']} others; "
            f"splits {how}."
        )

    @property
    def about_chance(self) -> str:
        """What random heads and permuted cues give, in sentences."""
        return " ".join(
            f"{what}: worst group {control.worst.mean():.3f} on average, "
            f"{control.worst.max():.3f} at best, p = {control.p:.3f}."
            for what, control in self.chance
        )

    @property
    def chance(self) -> tuple[tuple[str, Control], ...]:
        """What was tried by chance, in words, with how it went."""
        both = (
            (f"{len(self.random.worst)} random sets of as many other heads", self.random),
            (f"{len(self.permuted.worst)} searches with permuted cues", self.permuted),
        )
        return tuple((what, control) for what, control in both if len(control.worst))

    def __repr__(self) -> str:
        lines = [f"SpuriousHeads(removed {self.removed}; {self.effects.compared}", f"  {self.about_splits}"]
        for each in self.shares:
            lines.append(
                f"  {STAGES[each.stage]}: worst group {each.worst.value:.3f} ({each.worst.low:.3f} to "
                f"{each.worst.high:.3f}), average {each.average.value:.3f}"
            )
        return "\n".join([*lines, *(f"  {each}" for each in (self.about_chance, self.note) if each)]) + ")"
