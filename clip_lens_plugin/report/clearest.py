"""Which heads their texts describe most clearly, beside what as many random directions explain."""

from __future__ import annotations

import pandas as pd
import torch

from clip_lens_plugin.describe.spans import TextSpanResult, text_span
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.texts.pool import TextPool

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
    draws = [_random_span(model, moments, heads, pool_size, SEED + each) for each in range(N_DRAWS)]
    median = pd.Series([span.total_variance for span in described]).median()
    rows = []
    for span in described:
        n = min(N_TEXTS, len(span.texts))
        explained = span.explained_variance[n - 1]
        by_chance = [_explained(draw, span.layer, span.head, n) for draw in draws]
        varies, most = span.total_variance >= median, max(by_chance)
        mean = sum(by_chance) / len(by_chance)
        clear = varies and explained > most + ROUNDING
        rows.append((span.layer, span.head, n, explained, mean, most, span.total_variance, varies, clear))
    table = pd.DataFrame(rows, columns=COLUMNS)
    beyond = table["explained"] - table["chance"]
    order = table.assign(beyond=beyond).sort_values(["clear", "beyond"], ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _random_span(
    model: HookedCLIP, moments: Moments, heads: list[tuple[int, int]], n: int, seed: int
) -> TextSpanResult:
    generator = torch.Generator("cpu").manual_seed(seed)
    drawn = torch.randn(n, model.cfg.d_embed, generator=generator, dtype=torch.float64, device="cpu")
    unit = drawn / drawn.norm(dim=-1, keepdim=True)
    names = TextPool.from_strings([f"random direction {i}" for i in range(n)])
    return text_span(model, moments, names, N_TEXTS, heads, unit.to(model.cfg.device))


def _explained(spans: TextSpanResult, layer: int, head: int, n: int) -> float:
    found = spans[layer, head].explained_variance[:n]
    return found[-1] if found else 0.0
