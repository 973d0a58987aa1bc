"""How much the same search explains on pools of a null, for every head and draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.describe.frames import HeadFrame
from clip_lens_plugin.roles.null_pools import NullPool
from clip_lens_plugin.roles.pursuit import PrincipalFrames, pursued_each

MOST_NUMBERS = 2**20
"""Of the texts along the axes of all heads that are searched at once: 4 MB, which a processor's cache holds."""


def explained_by_chance(
    null: NullPool,
    frames: Sequence[HeadFrame],
    picks: Int[Tensor, " h"],
    n: int,
    seed: int,
    advance: Callable[[int], object],
) -> Float[Tensor, "n h"]:
    """The share of each head's variance that texts of the null explain, as many as it has picks, in n draws.

    Every head sees the same turn of the pool in a draw, so what heads have in common shows in the chance as well.

    Args:
        null: pool that is turned.
        frames: of the heads.
        picks: how many texts were picked for each head.
        n: draws.
        seed: of the draws.
        advance: called with how many draws are done.
    """
    groups = list(_groups(frames, len(null.scores)))
    seen = [null.seen_by(group.axes.transpose(0, 1).flatten(1)) for group in groups]
    counts = picks.split([len(group.axes) for group in groups])
    generator = torch.Generator("cpu").manual_seed(seed)
    rows: list[Float[Tensor, " h"]] = []
    while len(rows) < n:
        turns = null.draw(generator)
        quarters = null.quarters(turns)
        shares: list[list[Tensor]] = [[] for _ in range(4)]
        for group, pool, count in zip(groups, seen, counts, strict=True):
            asked = torch.arange(int(count.max()), device="cpu") < count[:, None]
            for found, texts in zip(shares, pool.turned(turns, quarters), strict=True):
                by_head = texts.unflatten(1, group.variances.shape).transpose(0, 1)
                gained = pursued_each(by_head, group, asked.shape[1]).gained.cpu()
                found.append((gained * asked).sum(1) / group.total.cpu())
        rows += [torch.cat(each) for each in shares][: n - len(rows)]
        advance(len(rows))
    return torch.stack(rows)


def _groups(frames: Sequence[HeadFrame], n_texts: int) -> list[PrincipalFrames]:
    """The heads in groups whose texts fit the memory."""
    widest = max(frame.rank for frame in frames)
    step = max(1, MOST_NUMBERS // (n_texts * widest))
    return [PrincipalFrames.of(list(frames[at : at + step])) for at in range(0, len(frames), step)]
