"""How much of a margin is the class and how much the cue, for every component: a table that adds up to the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.groups.chance import CueChance
from clip_lens_plugin.groups.four import FourGroups, four_groups, means_by_group
from clip_lens_plugin.groups.grouping import groups_of
from clip_lens_plugin.groups.margins import Margins, Part, direction_of, head_places, margins_of
from clip_lens_plugin.shown import Shown

MOST_SHOWN = 5
"""Heads that ``print`` shows."""

PERMUTATIONS = 200


@dataclass(frozen=True, eq=False, repr=False)
class GroupEffects(Shown):
    """The mean margin of four groups, and what each component adds to it; all in float64 and cosine units.

    The margin is the cosine with the second class's text less that with the first's. Everything is linear, so that a
    column summed over the components is that of the whole margin.

    Attributes:
        classes, cues: names of the two of each.
        counts: images of each group, in the order of :attr:`groups`.
        components: part, layer and head of each component, in the order of the model.
        means: mean margin of each group and component [4, c].
        whole: of the images' own margins [4], not summed from the components.
        chance: what cues that say nothing give, beside each component's cue effect.
    """

    classes: tuple[str, str]
    cues: tuple[str, str]
    counts: tuple[int, int, int, int]
    components: tuple[Part, ...]
    means: Float[np.ndarray, "4 c"]
    whole: Float[np.ndarray, " 4"]
    chance: CueChance

    @property
    def groups(self) -> tuple[str, ...]:
        """Class and cue of each group: (0, 0), (0, 1), (1, 0), (1, 1), the class first."""
        return tuple(f"{name}, {cue}" for name in self.classes for cue in self.cues)

    @property
    def core(self) -> Float[np.ndarray, " c"]:
        """By how much the second class's images are further towards its text: ½ (μ10 + μ11 − μ00 − μ01)."""
        return core_of(self.means)

    @property
    def cue(self) -> Float[np.ndarray, " c"]:
        """By how much images with the second cue are, whatever their class: ½ (μ01 + μ11 − μ00 − μ10)."""
        return cue_of(self.means)

    @property
    def core_by_cue(self) -> Float[np.ndarray, " c"]:
        """By how much the core effect is greater with the second cue: ½ (μ11 − μ10 − μ01 + μ00)."""
        return core_by_cue_of(self.means)

    @property
    def error(self) -> float:
        """The greatest difference between the sum over components and the whole margin of a group."""
        return float(np.abs(self.means.sum(1) - self.whole).max())

    def heads(self, what: str = "cue") -> Float[np.ndarray, "l h"]:
        """An effect of every head: "core", "cue" or "core_by_cue".

        Raises:
            ValueError: if there is no such effect.
        """
        if what not in EFFECTS:
            raise ValueError(f"An effect is one of {', '.join(EFFECTS)}, got {what!r}.")
        return EFFECTS[what](self.means)[head_places(self.components)]

    def heads_by_chance(self, what: str = "family_p") -> Float[np.ndarray, "l h"]:
        """One value per head, as :class:`CueChance` has it: "typical", "p" or "family_p".

        Raises:
            ValueError: if it has no such thing.
        """
        if what not in CHANCE:
            raise ValueError(f"What chance gives is one of {', '.join(CHANCE)}, got {what!r}.")
        return getattr(self.chance, what)[head_places(self.components)]

    def of_whole(self) -> dict[str, float]:
        """Each effect of the whole margin."""
        return {name: float(effect(self.whole[:, None])[0]) for name, effect in EFFECTS.items()}

    def to_dataframe(self) -> pd.DataFrame:
        """One row per component: part, layer, head, core, cue, core_by_cue, the mean margin of each group: mean_00,
        mean_01, mean_10, mean_11, the class first; and cue_typical, cue_p and cue_family_p, see :class:`CueChance`.

        Each effect, and each mean, sums to that of the whole margin.
        """
        table = pd.DataFrame(list(self.components), columns=["part", "layer", "head"])
        table = table.astype({"layer": "Int64", "head": "Int64"})
        for name, effect in EFFECTS.items():
            table[name] = effect(self.means)
        for place, mean in zip(("00", "01", "10", "11"), self.means, strict=True):
            table[f"mean_{place}"] = mean
        for name in CHANCE:
            table[f"cue_{name}"] = getattr(self.chance, name)
        return table

    @property
    def compared(self) -> str:
        """What is compared, in a sentence."""
        return (
            f"Margin towards {self.classes[1]!r} less {self.classes[0]!r}; the cue is {self.cues[1]!r} against "
            f"{self.cues[0]!r}."
        )

    @property
    def about(self) -> str:
        """The same with the number of images."""
        counts = ", ".join(f"{n:,} of ({name})" for name, n in zip(self.groups, self.counts, strict=True))
        return f"{self.compared} Images: {counts}."

    def __repr__(self) -> str:
        whole = self.of_whole()
        cue = self.heads("cue")
        order = np.argsort(-np.abs(cue), axis=None, kind="stable")[:MOST_SHOWN]
        p = self.heads_by_chance()
        greatest_cues = [
            f"L{l}H{h} {cue[l, h]:+.4f}" + (f" (p {p[l, h]:.3f})" if self.chance.turns else "")
            for l, h in (np.unravel_index(at, cue.shape) for at in order)
        ]
        effects = ", ".join(f"{name} {value:+.4f}" for name, value in whole.items())
        return f"GroupEffects({self.about} Whole: {effects}. Greatest cue: {', '.join(greatest_cues)})"


def group_effects(
    data: Any,
    classifier: Any,
    groups: Any,
    pairs: Any = None,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> GroupEffects:
    """What each component adds to the margin between two classes, parted into the class itself and a cue.

    Each component's contributions, divided by ‖M(I)‖, are projected on the second class's text less the first's and
    averaged over each of four groups, class y by cue a: μ_ya. Groups count alike, however many images they have. A
    component of high cue effect answers to the cue, whatever the class. Beside it stand the effects of cues that were
    permuted among the images of each class, see :class:`~clip_lens_plugin.groups.chance.CueChance`.

    Args:
        data: contributions, a store, or the path of one.
        classifier: a ``ZeroShotClassifier`` of the two classes, or of all classes of the groups; or their unit text
            embeddings [t, e].
        groups: a :class:`Groups`; the path of a CSV, see :meth:`Groups.read`; or the cue of each image, the classes
            being the data's own labels.
        pairs: ((class, class), (cue, cue)) that are compared, by name or position; needed where there are more than
            two of either. Images of others are left out.
        permutations: how many times cues are permuted for the chance; 0 for none.
        seed: of the permutations.

    Raises:
        ValueError: if a group is empty, there are more than two classes or cues and no pairs, the classifier is of
            other classes or of another model, groups do not match the images, contributions are NaN or infinite, or
            ``permutations`` or ``seed`` is no whole number of at least 0.
        FileNotFoundError: if there is no such CSV.
    """
    permutations, seed = checked_number("permutations", permutations, least=0), checked_number("seed", seed, least=0)
    found = data_of(data)
    known = groups_of(groups, found)
    four = four_groups(known, pairs)
    direction = direction_of(found, classifier, known.classes, four.pair)
    return effects_of(margins_of(found, direction), four, permutations, seed)


def effects_of(
    margins: Margins, four: FourGroups, permutations: int, seed: int, rows: Any = slice(None)
) -> GroupEffects:
    """The effects over some rows, or over all."""
    number = four.number[rows]
    counts = four.counts(rows).tolist()
    means = means_by_group(margins.values[rows], number)
    whole = means_by_group(margins.whole[rows, None], number)[:, 0]
    parts = [part for part, _, _ in margins.components]
    chance = CueChance.of(margins.values[rows], number, parts, cue_of(means), permutations, seed)
    return GroupEffects(four.classes, four.cues, tuple(counts), margins.components, means, whole, chance)


def core_of(means: Float[np.ndarray, "4 c"]) -> Float[np.ndarray, " c"]:
    """½ (μ10 + μ11 − μ00 − μ01)."""
    return (means[2] + means[3] - means[0] - means[1]) / 2


def cue_of(means: Float[np.ndarray, "4 c"]) -> Float[np.ndarray, " c"]:
    """½ (μ01 + μ11 − μ00 − μ10)."""
    return (means[1] + means[3] - means[0] - means[2]) / 2


def core_by_cue_of(means: Float[np.ndarray, "4 c"]) -> Float[np.ndarray, " c"]:
    """½ (μ11 − μ10 − μ01 + μ00)."""
    return (means[3] - means[2] - means[1] + means[0]) / 2


EFFECTS = {"core": core_of, "cue": cue_of, "core_by_cue": core_by_cue_of}
CHANCE = ("typical", "p", "family_p")
