"""Which theme the texts of a head have, how much of what they explain is of it, and how much would be by chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

NO_THEME = -1
"""Of texts whose theme is the empty string."""


class LeadingTheme(NamedTuple):
    """The theme that most of the explained variance is of.

    Attributes:
        theme: its name, "" if no text has a theme.
        mass: its share of the explained variance, 0 to 1.
        consistency: how many of the texts are of it.
    """

    theme: str
    mass: float
    consistency: int


def theme_codes(themes: Sequence[str]) -> tuple[Int[Tensor, " t"], list[str]]:
    """The theme of each text as a position in the list of all of them, :data:`NO_THEME` where it has none.

    Raises:
        ValueError: if no text has a theme.
    """
    names = list(dict.fromkeys(theme for theme in themes if theme))
    if not names:
        raise ValueError(
            "No text of the pool has a theme, and roles are themes: give TextPool(texts, themes), or a file with a "
            "theme, a tab and a text on each line."
        )
    place = {name: at for at, name in enumerate(names)}
    return torch.tensor([place.get(theme, NO_THEME) for theme in themes], device="cpu"), names


def masses(codes: Int[Tensor, "*n m"], gains: Float[Tensor, " m"]) -> Float[Tensor, "*n m"]:
    """For each pick, the share of the explained variance that is of its theme; 0 for a pick without a theme.

    Args:
        codes: theme of each pick.
        gains: variance that each pick explains, in any unit.
    """
    same = (codes[..., :, None] == codes[..., None, :]) & (codes != NO_THEME)[..., None]
    return (same * gains).sum(-1) / gains.sum()


def leading_theme(codes: Int[Tensor, " m"], gains: Float[Tensor, " m"], names: Sequence[str]) -> LeadingTheme:
    """The theme of the greatest mass; of equal ones that of the earliest pick."""
    found = masses(codes, gains)
    mass = float(found.max())
    if mass == 0.0:
        return LeadingTheme("", 0.0, 0)
    code = codes[int(found.argmax())]
    return LeadingTheme(names[int(code)], mass, int((codes == code).sum()))


def masses_by_chance(
    codes: Int[Tensor, " t"], indices: Sequence[int], gains: Float[Tensor, " m"], permutations: Int[Tensor, "n t"]
) -> Float[Tensor, " n"]:
    """The greatest mass of a theme if themes are dealt out to the texts at random.

    Args:
        codes: of the texts of the pool.
        indices: of the picks, which stay what they are.
        gains: variance that each explains.
        permutations: of the texts of the pool, one row per draw.
    """
    return masses(codes[permutations[:, list(indices)]], gains).amax(-1)
