"""How many heads have a role as the pool grows, beside as many texts that say nothing of the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number, whole_numbers
from clip_lens_plugin.bars import Bars
from clip_lens_plugin.describe.asked import Heads
from clip_lens_plugin.describe.embedded import EmbeddedTexts, embedded
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.roles.finding import checked_draws, checked_picks
from clip_lens_plugin.roles.measuring import roles_of
from clip_lens_plugin.roles.null_pools import random_turn
from clip_lens_plugin.roles.parts import asked_in_parts
from clip_lens_plugin.roles.themes import theme_codes
from clip_lens_plugin.shown import ResultTable
from clip_lens_plugin.texts.pool import TextPool

N_SIZES = 5
"""Sizes where none were given: each twice the one before, up to all texts."""

OWN, TURNED = "own", "turned"


class RoleGrowth(ResultTable):
    """What :func:`role_growth` found, one row per pool; in a notebook it draws itself."""

    printed = ("texts", "repeat", "pool", "share_with_role", "explained")


@takes_bridges
@torch.no_grad()
@full_precision()
def role_growth(
    model: ImageTextModel,
    data: Any,
    pool: TextPool,
    sizes: Sequence[int] | None = None,
    n: int | None = None,
    heads: Heads = "late",
    *,
    repeats: int = 3,
    text_embeddings: Float[Tensor, "t e"] | None = None,
    n_nulls: int = 99,
    n_bootstraps: int = 50,
    seed: int = 0,
    progress: bool = False,
) -> RoleGrowth:
    """The share of heads that have a role with ever more texts of the pool, drawn at random.

    Beside each drawn pool stands the same with all embeddings turned by one random orthogonal matrix: a pool of as many
    texts, with the same themes and similarities, that says nothing of the images. Its share is that of false alarms.

    Args:
        model, data, pool, n, heads, text_embeddings, n_nulls, n_bootstraps: see
            :func:`~clip_lens_plugin.roles.finding.head_roles`.
        sizes: numbers of texts; if not given five, each twice the one before, up to the whole pool.
        repeats: how many pools are drawn for each size; of one repeat, the smaller are parts of the greater ones.
        seed: of all draws.
        progress: show a bar.

    Returns:
        One row per pool: texts (its size), repeat, pool ("own" or "turned"), heads (how many are tested), with_role,
        share_with_role, explained (by the first n texts, the mean over heads weighted by their variance).

    Raises:
        ValueError: as ``head_roles``; if a size is less than n or more than there are texts, or no text of a drawn pool
            has a theme.
    """
    draws = checked_draws(n_nulls, n_bootstraps, seed)
    repeats = checked_number("repeats", repeats)
    theme_codes(pool.themes)
    given = asked_in_parts(model, data, heads)
    n = checked_picks(n, given.asked.moments.sum_y.shape[-1])
    chosen = _checked_sizes(sizes, n, len(pool))
    whole = embedded(model, given.asked.readout, pool, text_embeddings)
    rows = []
    with Bars(visible=progress) as bars:
        task = bars.add_task("pools", total=2 * repeats * len(chosen))
        for repeat in range(repeats):
            own_draws = draws._replace(seed=draws.seed_of(100 + repeat))
            generator = torch.Generator("cpu").manual_seed(own_draws.seed)
            order = torch.randperm(len(pool), generator=generator, device="cpu").tolist()
            turn = random_turn(whole.embeddings.shape[1], generator).to(whole.embeddings)
            for size in chosen:
                own = _part_of(whole, sorted(order[:size]))
                turned = own._replace(embeddings=own.embeddings @ turn)
                for name, texts in ((OWN, own), (TURNED, turned)):
                    found = roles_of(given, texts, n, own_draws, Bars(visible=False))
                    shares = found.share_with_role, found.explained
                    rows.append((size, repeat, name, len(found), len(found.with_role), *shares))
                    bars.advance(task)
    return RoleGrowth(rows, columns=["texts", "repeat", "pool", "heads", "with_role", "share_with_role", "explained"])


def _part_of(texts: EmbeddedTexts, kept: list[int]) -> EmbeddedTexts:
    pool = TextPool([texts.pool.texts[at] for at in kept], [texts.pool.themes[at] for at in kept])
    return EmbeddedTexts(pool, texts.embeddings[kept])


def _checked_sizes(given: Sequence[int] | None, n: int, n_texts: int) -> list[int]:
    sizes = whole_numbers("sizes", given)
    if sizes is None:
        halved = [n_texts // 2**step for step in range(N_SIZES)]
        return sorted({size for size in halved if size >= 2 * n}) or [n_texts]
    if not sizes or not all(n <= size <= n_texts for size in sizes):
        raise ValueError(
            f"sizes must be numbers of texts from {n}, as many as are picked, to {n_texts}, as many as there are, got "
            f"{list(sizes)!r:.80}."
        )
    return sorted(set(sizes))
