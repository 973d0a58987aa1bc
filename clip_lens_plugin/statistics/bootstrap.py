"""Bootstrap intervals of figures that are made of sums over independent groups."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from clip_lens_plugin.statistics.intervals import CONFIDENCE

DRAWS = 1000


def bootstrap_counts(n_groups: int, seed: int, draws: int = DRAWS) -> Int[np.ndarray, "draws groups"]:
    """How often each group occurs in samples of as many groups, drawn with replacement.

    Sums over a sample are ``counts @ sums_of_groups``. Figures made with the same counts are of the same samples, so
    that differences between them are paired.

    Args:
        n_groups: of observations that are independent of those of other groups, one or more.
        seed: of the draws.
        draws: number of samples.
    """
    chances = np.full(n_groups, 1 / n_groups)
    return np.random.default_rng(seed).multinomial(n_groups, chances, size=draws)


def percentile_interval(drawn: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    """Low and high end of the 95 % interval: percentiles of a figure over bootstrap samples, NaN left out.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    known = drawn[~np.isnan(drawn)]
    if not known.size:
        return float("nan"), float("nan")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
