"""How far a share of right answers may be from what more images of the same kind would give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

CONFIDENCE = 0.95
Z = 1.959963984540054
"""The normal distribution holds 95 % between −Z and Z."""


@dataclass(frozen=True)
class Interval:
    """A share, 0 to 1, and its 95 % Wilson score interval; NaN where nothing was counted."""

    value: float
    low: float
    high: float

    @classmethod
    def of_share(cls, right: int, n: int) -> Interval:
        """The interval of a share, ``right`` out of ``n``. Raises as :func:`share_interval`."""
        low, high = share_interval(right, n)
        return cls(right / n if n else float("nan"), float(low), float(high))


def share_interval(
    right: int | Int[np.ndarray, "*shares"], n: int | Int[np.ndarray, "*shares"]
) -> tuple[Float[np.ndarray, "*shares"], Float[np.ndarray, "*shares"]]:
    """Low and high end of the 95 % Wilson score interval of the share right / n.

    Source: Wilson, JASA 22 (1927), as ``scipy.stats.binomtest(right, n).proportion_ci(method="wilson")`` gives it. A
    share of 0 or 1 has an interval of some width too, narrower the more images there are.

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
    limits = np.array([_wilson(int(r), int(size)) for r, size in pairs.T]).reshape(-1, 2)[place.ravel()]
    return limits[:, 0].reshape(rights.shape), limits[:, 1].reshape(rights.shape)


def _wilson(right: int, n: int) -> tuple[float, float]:
    if n == 0:
        return float("nan"), float("nan")
    from scipy.stats import binomtest  # Half a second to import, for what most calls do not need.

    found = binomtest(right, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def paired_interval(
    gained: Int[np.ndarray, " pairs"], lost: Int[np.ndarray, " pairs"], n: int
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Low and high end of the 95 % interval of (gained − lost) / n, the difference of two shares of the same images.

    Source: Agresti and Min, Statistics in Medicine 24 (2005): the normal interval for matched pairs after half an
    image is added to each of the four cells (right or wrong, before and after), cut to −1 to 1. Images that are right
    in both, or wrong in both, say nothing of the difference, so it is narrower than two intervals side by side.

    Args:
        gained: images that were wrong and are right now.
        lost: images that were right and are wrong now.
        n: all images.

    Raises:
        ValueError: if a number is negative, gained and lost are more than n, or there is no image.
    """
    if n < 1 or (gained < 0).any() or (lost < 0).any() or (gained + lost > n).any():
        raise ValueError(f"Of n = {n} images, {gained.max()} cannot be gained and {lost.max()} lost.")
    more, fewer, size = gained + 0.5, lost + 0.5, n + 2.0
    centre = (more - fewer) / size
    spread = Z * np.sqrt((more + fewer) / size - centre**2) / np.sqrt(size)
    return np.maximum(centre - spread, -1.0), np.minimum(centre + spread, 1.0)
