"""Which heads their texts describe most clearly, beside what as many random directions explain."""

from __future__ import annotations

import pandas as pd
import torch

from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.describe.frames import HeadFrame
from clip_lens_plugin.describe.spans import TextSpanResult
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.statistics.moments import Moments

N_TEXTS = 3
"""The first texts of a head, which are compared."""

N_DRAWS, SEED = 3, 0
"""Of random directions, as many in each draw as the pool has texts."""

ROUNDING = 1e-6
"""Of a share."""

COLUMNS = ["layer", "head", "texts", "explained", "chance", "chance_most", "total_variance", "varies", "clear"]


def clarity(model: HookedCLIP, moments: Moments, spans: TextSpanResult, pool_size: int) -> pd.DataFrame:
    """How much more of a head's variance its first texts explain than random directions, the clearest head first.

    Chance is TextSpan itself, on random unit vectors of the joint space in the place of the texts, as many as the pool
    has: whatever the pool says, the best few of so many directions explain something.

    A head counts as clear if it varies at least as much as the median of the heads, so that it matters, and its texts
    explain more than those of every draw. Clear heads come first, by what their texts explain beyond chance.

    Args:
        model: that the moments are of.
        moments: of the heads.
        spans: TextSpan's texts of some heads, picked on these moments.
        pool_size: number of texts that they were picked from.

    Returns:
        One row per head that has texts: layer, head, texts (how many are compared), explained (share of its variance,
        0 to 1), chance (mean over the draws), chance_most (the greatest of them), total_variance (cosine²), varies (at
        least the median), clear.
    """
    described = [span for span in spans if span.texts]
    if not described:
        return pd.DataFrame({name: [] for name in COLUMNS})
    heads = [(span.layer, span.head) for span in described]
    chance = _by_chance(Readout.of(model), moments, heads, pool_size)
    median = pd.Series([span.total_variance for span in described]).median()
    rows = []
    for span in described:
        n = min(N_TEXTS, len(span.texts))
        explained = span.explained_variance[n - 1]
        by_chance = [shares[:n][-1] if shares else 0.0 for shares in chance[span.layer, span.head]]
        varies, most = span.total_variance >= median, max(by_chance)
        mean = sum(by_chance) / len(by_chance)
        clear = varies and explained > most + ROUNDING
        rows.append((span.layer, span.head, n, explained, mean, most, span.total_variance, varies, clear))
    table = pd.DataFrame(rows, columns=COLUMNS)
    beyond = table["explained"] - table["chance"]
    order = table.assign(beyond=beyond).sort_values(["clear", "beyond"], ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _by_chance(
    readout: Readout, moments: Moments, heads: list[tuple[int, int]], n: int
) -> dict[tuple[int, int], list[list[float]]]:
    """For each head, what the first of n random directions explain, in each draw."""
    width, draws = readout.P.shape[1], []
    for each in range(N_DRAWS):
        generator = torch.Generator("cpu").manual_seed(SEED + each)
        drawn = torch.randn(n, width, generator=generator, dtype=torch.float64, device="cpu")
        draws.append((drawn / drawn.norm(dim=-1, keepdim=True)).to(readout.P.device))
    frames = {head: HeadFrame.of(readout, moments, *head) for head in heads}
    return {head: [frame.picked(draw, N_TEXTS).explained for draw in draws] for head, frame in frames.items()}
