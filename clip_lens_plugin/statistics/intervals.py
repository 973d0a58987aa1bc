"""How far a share of right answers would have moved with other images of the same kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

DRAWS = 2_000
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A share, 0 to 1, and its 95 % bootstrap interval; NaN where nothing was counted."""

    value: float
    low: float
    high: float

    @classmethod
    def of_share(cls, right: int, n: int) -> Interval:
        """Of ``right`` out of ``n``. Raises as :func:`bootstrap_interval`."""
        low, high = bootstrap_interval(right, n)
        return cls(right / n if n else float("nan"), float(low), float(high))


def bootstrap_interval(
    right: int | Int[np.ndarray, "*shares"], n: int | Int[np.ndarray, "*shares"]
) -> tuple[Float[np.ndarray, "*shares"], Float[np.ndarray, "*shares"]]:
    """Low and high end of the 95 % bootstrap percentile interval of the share right / n.

    n zeros and ones that are drawn again with replacement hold Binomial(n, right / n) ones, so their number is drawn
    from that, 2,000 times, with seed 0 for each share: equal shares have equal intervals. A share of 0 or 1 has an
    interval of no width, as every bootstrap has there.

    Args:
        right: how many were right, one number or an array.
        n: of how many; 0 gives NaN. An array and a number, or two arrays, are broadcast.

    Returns:
        Two float64 arrays, without dimensions if both arguments are numbers.

    Raises:
        ValueError: if a number is not in 0 ≤ right ≤ n.
    """
    rights, sizes = np.broadcast_arrays(right, n)
    bad = (rights < 0) | (rights > sizes)
    if bad.any():
        raise ValueError(f"There must be 0 to n right answers, got {rights[bad][0]} of n = {sizes[bad][0]}.")
    pairs, place = np.unique(np.stack([rights.ravel(), sizes.ravel()]), axis=1, return_inverse=True)
    limits = np.array([_limits(int(r), int(size)) for r, size in pairs.T]).reshape(-1, 2)[place.ravel()]
    return limits[:, 0].reshape(rights.shape), limits[:, 1].reshape(rights.shape)


def _limits(right: int, n: int) -> tuple[float, float]:
    if n == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(np.random.default_rng(0).binomial(n, right / n, DRAWS) / n, PERCENTILES)
    return float(low), float(high)
