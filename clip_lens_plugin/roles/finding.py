"""Which theme each head has, if any: its texts beside what chance gives, and beside other images of the same kind.

What texts explain says nothing by itself: the best five of a pool that was turned at random explain much of a head with
16 coordinates. So a role has to be more than two nulls give, over all heads that are looked at; most of what the texts
explain has to be of one theme; and the texts have to stay the same on other images.

Source of the nulls and of the family-wise error: :mod:`clip_lens_plugin.roles.null_pools` and
:mod:`clip_lens_plugin.statistics.chance`. The texts are TextSpan's, see :mod:`clip_lens_plugin.describe.spans`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.bars import Bars
from clip_lens_plugin.describe.asked import Heads
from clip_lens_plugin.describe.embedded import embedded
from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.roles.measuring import Draws, roles_of
from clip_lens_plugin.roles.parts import asked_in_parts
from clip_lens_plugin.roles.result import HeadRoles
from clip_lens_plugin.roles.themes import theme_codes
from clip_lens_plugin.texts.pool import TextPool

N_PICKS = 5
"""Texts per head, where it has coordinates enough."""

FEWEST_NULLS = 19
"""With fewer draws no p is as small as 0.05."""


@takes_bridges
@torch.no_grad()
@full_precision()
def head_roles(
    model: ImageTextModel,
    data: Any,
    pool: TextPool,
    n: int | None = None,
    heads: Heads = "late",
    *,
    text_embeddings: Float[Tensor, "t e"] | None = None,
    n_nulls: int = 200,
    n_bootstraps: int = 50,
    seed: int = 0,
    progress: bool = False,
) -> HeadRoles:
    """For each head the theme of its texts, and whether that is more than chance: its role, or "none".

    The texts are the first n that :func:`~clip_lens_plugin.text_span` picks. Everything is computed in the heads'
    coordinates, from moments alone, so the cost does not depend on the number of images.

    Args:
        model: gives M_{l,h} and the texts' embeddings.
        data: what the heads wrote: contributions, a store or its path, or images; a list of :class:`Moments` of
            disjoint parts of the images; or one :class:`Moments`, of which the stability is unknown.
        pool: texts with their themes.
        n: texts per head, m, less than a quarter of its coordinates: with more any pool explains nearly everything. As
            many as that allows, 5 at most, if not given.
        heads: "late" (the last four layers), "all", or (layer, head) pairs. All of them are tested together.
        text_embeddings: unit embeddings of ``pool``, to use instead of the model's own.
        n_nulls: draws of each null; the least p is 1 / (n_nulls + 1).
        n_bootstraps: of the images, 0 for no stability.
        seed: of the draws.
        progress: show bars.

    Raises:
        ValueError: if n is a quarter of a head's coordinates or more, no text has a theme, ``n_nulls`` is less than 19
            (no p would be as small as 0.05), there are fewer than two images, there is no head, embeddings are not
            finite unit vectors or not of the texts, or the moments are of another model or of other layers alone.
        IndexError: if there is no such head.
    """
    draws = checked_draws(n_nulls, n_bootstraps, seed)
    theme_codes(pool.themes)
    given = asked_in_parts(model, data, heads)
    n = checked_picks(n, given.asked.moments.sum_y.shape[-1])
    texts = embedded(model, given.asked.readout, pool, text_embeddings)
    with Bars(visible=progress) as bars:
        return roles_of(given, texts, n, draws, bars)


def checked_draws(n_nulls: Any, n_bootstraps: Any, seed: Any) -> Draws:
    """The numbers of draws, and their seed.

    Raises:
        ValueError: if one is no whole number, or too small.
    """
    n_nulls = checked_number("n_nulls", n_nulls, least=FEWEST_NULLS)
    return Draws(n_nulls, checked_number("n_bootstraps", n_bootstraps, least=0), checked_number("seed", seed, least=0))


def checked_picks(n: Any, n_coordinates: int) -> int:
    """The number of texts per head.

    Args:
        n: that was asked for; None for as many as are allowed, :data:`N_PICKS` at most.
        n_coordinates: of a head.

    Raises:
        ValueError: if it is a quarter of the coordinates or more.
    """
    most = (n_coordinates - 1) // 4
    if most < 1:
        raise ValueError(
            f"Heads of {n_coordinates} coordinates are too narrow for roles: they need texts for less than a quarter "
            f"of them."
        )
    if n is None:
        return min(N_PICKS, most)
    n = checked_number("n", n)
    if n > most:
        raise ValueError(
            f"{n} texts are a quarter or more of the {n_coordinates} coordinates of a head, where any pool explains "
            f"most of it: ask for {most} or fewer ({hint(f'n={most}', f'--picks {most}')})."
        )
    return n
