"""The roles of heads: what was measured of each, beside chance, and what is called a role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from clip_lens_plugin.arguments import checked_heads
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.shown import Shown

NONE = "none"
"""The role of a head that has no role."""

LARGEST_P, LEAST_STABILITY, LEAST_MASS = 0.05, 0.5, 0.4
"""What a role needs: of the family-wise p at most the first, of the stability and the mass at least the others."""

MOST_SHOWN, MOST_NAMED, LONGEST = 6, 4, 24
"""What a result says at most: themes, heads in a message, and letters of a theme."""


class ByChance(NamedTuple):
    """What the same search finds on pools of a null.

    Attributes:
        mean: share of the head's variance that is explained, the mean over the draws.
        p: of the head by itself.
        family_p: of the greatest of all tested heads, see
            :func:`~clip_lens_plugin.statistics.chance.family_wise_p`.
    """

    mean: float
    p: float
    family_p: float


@dataclass(frozen=True, kw_only=True)
class HeadRole:
    """What the first texts of one head say of it, and whether chance says as much.

    A head that writes the same for all images has no texts, no theme, NaN for everything that is measured, and no role.

    Attributes:
        layer, head: which head.
        theme: of the pool, that most of the explained variance is of; "" if no text has one.
        mass: the theme's share of the explained variance, 0 to 1.
        mass_p: how often the greatest mass is as great with the themes dealt out to the texts at random.
        consistency: how many of the texts are of the theme.
        texts: as TextSpan picks them, best first.
        indices: their positions in the pool.
        explained: share of the head's variance that they explain together, 0 to 1.
        turned: the same of pools that are turned at random.
        mirrored: of pools of the same mean and covariance, see :mod:`clip_lens_plugin.roles.null_pools`.
        stability: mean Jaccard index of the texts and those picked on bootstraps of the images; NaN if unknown.
        variance_share: of the variance of all tested heads together.
    """

    layer: int
    head: int
    theme: str
    mass: float
    mass_p: float
    consistency: int
    texts: tuple[str, ...]
    indices: tuple[int, ...]
    explained: float
    turned: ByChance
    mirrored: ByChance
    stability: float
    variance_share: float

    @property
    def role(self) -> str:
        """The theme; or "none" if the texts may be chance, change with the images, or are of no one theme.

        That is: if the family-wise p of turned pools is greater than :data:`LARGEST_P`, the stability, where it is
        known, less than :data:`LEAST_STABILITY`, or the mass less than :data:`LEAST_MASS`. Mirrored pools ask for more
        than a role: that single texts lie along the head, and not the pool as a whole.
        """
        is_plain = self.turned.family_p <= LARGEST_P and self.mass >= LEAST_MASS and bool(self.theme)
        return self.theme if is_plain and not self.stability < LEAST_STABILITY else NONE


COLUMNS = (
    "layer",
    "head",
    "role",
    "theme",
    "mass",
    "mass_p",
    "consistency",
    "explained",
    "turned_mean",
    "turned_p",
    "turned_family_p",
    "mirrored_mean",
    "mirrored_p",
    "mirrored_family_p",
    "stability",
    "variance_share",
    "texts",
)


@dataclass(frozen=True, kw_only=True, repr=False)
class HeadRoles(Shown):
    """``result[layer, head]`` for each head that was asked for; in a notebook it draws itself.

    Attributes:
        roles: of each head.
        n_layers, n_heads: of the model.
        n_texts: of the pool.
        n_picks: texts per head.
        n_images: whose moments they are.
        n_nulls: draws of each null.
        n_bootstraps: 0 if the stability is unknown.
        parts: what the bootstrap drew from, or why the stability is unknown.
    """

    roles: tuple[HeadRole, ...]
    n_layers: int
    n_heads: int
    n_texts: int
    n_picks: int
    n_images: int
    n_nulls: int
    n_bootstraps: int
    parts: str

    @property
    def heads(self) -> list[tuple[int, int]]:
        """(layer, head) of each head, in the order asked for."""
        return [(each.layer, each.head) for each in self.roles]

    def __getitem__(self, key: tuple[int, int]) -> HeadRole:
        layer, head = checked_heads([key], self.n_layers, self.n_heads)[0]
        found = [each for each in self.roles if (each.layer, each.head) == (layer, head)]
        if not found:
            some = ", ".join(map(str, self.heads[:MOST_NAMED])) + (", ..." if len(self) > MOST_NAMED else "")
            raise KeyError(f"The role of layer {layer}, head {head} was not asked for; there are {len(self)}: {some}")
        return found[0]

    def __iter__(self) -> Iterator[HeadRole]:
        return iter(self.roles)

    def __len__(self) -> int:
        return len(self.roles)

    @property
    def with_role(self) -> tuple[HeadRole, ...]:
        """Heads that have one, of the greatest variance first."""
        found = [each for each in self.roles if each.role != NONE]
        return tuple(sorted(found, key=lambda each: -each.variance_share))

    @property
    def share_with_role(self) -> float:
        """The share of heads that have a role, 0 to 1."""
        return len(self.with_role) / len(self)

    @property
    def explained(self) -> float:
        """Share of the heads' variance that their texts explain, 0 to 1: the mean, weighted by their variance."""
        return sum(each.explained * each.variance_share for each in self.roles if each.texts)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per head, see :class:`HeadRole`: its texts in one cell, "; " between them."""
        rows = [
            (
                *(each.layer, each.head, each.role, each.theme, each.mass, each.mass_p, each.consistency),
                *(each.explained, *each.turned, *each.mirrored, each.stability, each.variance_share),
                "; ".join(each.texts),
            )
            for each in self.roles
        ]
        return pd.DataFrame(rows, columns=[*COLUMNS])

    @property
    def about(self) -> str:
        """How the roles were found, in a sentence."""
        stable = f"{self.n_bootstraps} bootstraps of {self.parts}" if self.n_bootstraps else f"stability {self.parts}"
        return (
            f"{self.n_images:,} images; the first {self.n_picks} of {self.n_texts:,} texts; {self.n_nulls} draws of "
            f"each null; {stable}"
        )

    def __repr__(self) -> str:
        counted = Counter(each.role for each in self.with_role).most_common()
        listed = ", ".join(f"{one_line(role, LONGEST)} {n}" for role, n in counted[:MOST_SHOWN])
        more = f" and {len(counted) - MOST_SHOWN} more" if len(counted) > MOST_SHOWN else ""
        listing = f": {listed}{more}" if counted else ""
        return f"HeadRoles({len(self.with_role)} of {len(self)} heads have a role{listing}; {self.about})"
