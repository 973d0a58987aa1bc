"""What is measured of heads for their roles, once all that was asked is checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import TaskID
from torch import Tensor

from clip_lens_plugin.bars import Bars
from clip_lens_plugin.describe.asked import warn_of_constant
from clip_lens_plugin.describe.embedded import EmbeddedTexts
from clip_lens_plugin.describe.frames import HeadFrame, Picked, noise_of
from clip_lens_plugin.roles.chance import explained_by_chance
from clip_lens_plugin.roles.null_pools import mirrored_pool, turned_pool
from clip_lens_plugin.roles.parts import AskedInParts
from clip_lens_plugin.roles.result import ByChance, HeadRole, HeadRoles
from clip_lens_plugin.roles.stability import stability
from clip_lens_plugin.roles.themes import LeadingTheme, leading_theme, masses_by_chance, theme_codes
from clip_lens_plugin.statistics.bootstrap import bootstrap_counts
from clip_lens_plugin.statistics.chance import family_wise_p, p_values
from clip_lens_plugin.texts.pool import TextPool
from clip_lens_plugin.warned import warn

NOTHING = ByChance(math.nan, math.nan, math.nan)


class Draws(NamedTuple):
    """How often chance is asked, and where it begins."""

    n_nulls: int
    n_bootstraps: int
    seed: int

    def seed_of(self, what: int) -> int:
        """The seed of one of several things that are drawn independently."""
        return int(np.random.SeedSequence([self.seed, what]).generate_state(1)[0])


class Searched(NamedTuple):
    """A head and the texts that TextSpan picks for it, one or more."""

    head: tuple[int, int]
    frame: HeadFrame
    picked: Picked


class Theme(NamedTuple):
    """The theme of a head's texts, and how often dealing out themes at random gives as great a mass."""

    leading: LeadingTheme
    p: float


def roles_of(given: AskedInParts, texts: EmbeddedTexts, n: int, draws: Draws, bars: Bars) -> HeadRoles:
    """The roles of the heads, see :func:`~clip_lens_plugin.roles.finding.head_roles`.

    Args:
        given: the heads and the images.
        texts: the pool.
        n: texts per head.
        draws: how many.
        bars: of the progress.
    """
    asked = given.asked
    found, constant = _searched(given, texts, n)
    warn_of_constant(constant, asked.moments.n)
    _warn_of_narrow(found, n, asked.moments.n)
    n_bootstraps = draws.n_bootstraps if given.parts else 0
    measured = zip(
        found,
        _by_chance(found, texts, draws, bars),
        _themes(found, texts.pool, draws),
        _stabilities(found, given, texts, draws._replace(n_bootstraps=n_bootstraps), bars),
        strict=True,
    )
    whole = sum(each.picked.total for each in found)
    roles = {
        each.head: _role(each, texts.pool, chance, theme, stable, whole) for each, chance, theme, stable in measured
    }
    cfg = asked.readout.model.cfg
    return HeadRoles(
        roles=tuple(roles.get(head) or _role_of_constant(*head) for head in asked.heads),
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        n_texts=len(texts.pool),
        n_picks=n,
        n_images=asked.moments.n,
        n_nulls=draws.n_nulls,
        n_bootstraps=n_bootstraps,
        parts=given.of if draws.n_bootstraps else "not asked for",
    )


def _searched(given: AskedInParts, texts: EmbeddedTexts, n: int) -> tuple[list[Searched], list[tuple[int, int]]]:
    """The heads with their texts, and those that write the same for all images."""
    readout, moments, heads = given.asked
    found, constant = [], []
    for head in heads:
        frame = HeadFrame.of(readout, moments, *head)
        picked = frame.picked(texts.embeddings, n)
        if picked.indices:
            found.append(Searched(head, frame, picked))
        else:
            constant.append(head)
    return found, constant


def _by_chance(
    found: Sequence[Searched], texts: EmbeddedTexts, draws: Draws, bars: Bars
) -> Iterator[tuple[ByChance, ByChance]]:
    """What turned and mirrored pools give, for each head."""
    if not found:
        return iter(())
    observed = torch.tensor([each.picked.explained[-1] for each in found], dtype=torch.float64, device="cpu")
    picks = torch.tensor([len(each.picked.indices) for each in found], device="cpu")
    frames, each_null = [each.frame for each in found], []
    for what, (name, null) in enumerate((("turned pools", turned_pool), ("mirrored pools", mirrored_pool))):
        task = bars.add_task(name, total=draws.n_nulls)
        pool = null(texts.embeddings)
        drawn = explained_by_chance(pool, frames, picks, draws.n_nulls, draws.seed_of(what), partial(_show, bars, task))
        columns = drawn.mean(0), p_values(observed, drawn), family_wise_p(observed, drawn)
        each_null.append([ByChance(*each) for each in torch.stack(columns, dim=1).tolist()])
    return zip(*each_null, strict=True)


def _show(bars: Bars, task: TaskID, done: int) -> None:
    bars.update(task, completed=done)


def _themes(found: Sequence[Searched], pool: TextPool, draws: Draws) -> Iterator[Theme]:
    """The theme of each head."""
    codes, names = theme_codes(pool.themes)
    generator = torch.Generator("cpu").manual_seed(draws.seed_of(2))
    permutations = torch.stack(
        [torch.randperm(len(pool), generator=generator, device="cpu") for _ in range(draws.n_nulls)]
    )
    for each in found:
        gains = _gains(each.picked)
        leading = leading_theme(codes[each.picked.indices], gains, names)
        drawn = masses_by_chance(codes, each.picked.indices, gains, permutations)
        yield Theme(leading, float(p_values(drawn.new_tensor([leading.mass]), drawn[:, None])))


def _stabilities(
    found: Sequence[Searched], given: AskedInParts, texts: EmbeddedTexts, draws: Draws, bars: Bars
) -> Iterator[float]:
    """That of each head; NaN if there are no bootstraps."""
    if not draws.n_bootstraps:
        yield from [math.nan] * len(found)
        return
    readout, moments, _ = given.asked
    drawn = torch.from_numpy(bootstrap_counts(len(given.parts), draws.seed_of(3), draws.n_bootstraps)).double()
    noise = noise_of(readout, moments)
    task = bars.add_task("bootstraps", total=len(found))
    for each in found:
        head_map = readout.head_map(*each.head, moments.constants).detach().double()
        indices = each.picked.indices
        yield stability(each.frame, head_map, given.parts, each.head, texts.embeddings, indices, drawn, noise)
        bars.advance(task)


def _gains(picked: Picked) -> Float[Tensor, " m"]:
    """The share that each text adds to what is explained."""
    explained = torch.tensor([0.0, *picked.explained], dtype=torch.float64, device="cpu")
    return explained.diff().clamp(min=0)


def _role(
    each: Searched, pool: TextPool, chance: tuple[ByChance, ByChance], theme: Theme, stable: float, whole: float
) -> HeadRole:
    return HeadRole(
        layer=each.head[0],
        head=each.head[1],
        **theme.leading._asdict(),
        mass_p=theme.p,
        texts=tuple(pool.texts[index] for index in each.picked.indices),
        indices=tuple(each.picked.indices),
        explained=each.picked.explained[-1],
        turned=chance[0],
        mirrored=chance[1],
        stability=stable,
        variance_share=each.picked.total / whole,
    )


def _role_of_constant(layer: int, head: int) -> HeadRole:
    return HeadRole(
        layer=layer,
        head=head,
        theme="",
        mass=math.nan,
        mass_p=math.nan,
        consistency=0,
        texts=(),
        indices=(),
        explained=math.nan,
        turned=NOTHING,
        mirrored=NOTHING,
        stability=math.nan,
        variance_share=0.0,
    )


def _warn_of_narrow(found: Sequence[Searched], n: int, n_images: int) -> None:
    """Says which heads write so few directions that their texts explain them whatever they are."""
    narrow = [each for each in found if 4 * n >= each.frame.rank]
    if narrow:
        (layer, head), rank = narrow[0].head, narrow[0].frame.rank
        warn(
            f"On these {n_images} images {len(narrow)} heads write so few directions that {n} texts are a quarter of "
            f"them or more, so that any pool explains much: layer {layer}, head {head} writes {rank}. Ask for fewer "
            f"texts, or give more images."
        )
