"""How often chance gives as much: p-values from draws of a null, of one statistic and of the greatest of many.

Source of the second: Westfall and Young, "Resampling-Based Multiple Testing", Wiley 1993: the single step by the
greatest statistic, which holds for statistics that depend on each other, as those of heads of one model do.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDING = 1e-5
"""A draw whose share is less than this below the observed one counts as equal to it."""


def p_values(observed: Float[Tensor, " h"], drawn: Float[Tensor, "n h"]) -> Float[Tensor, " h"]:
    """``(1 + #{draws at least as great}) / (n + 1)`` for each statistic by itself: never below 1 / (n + 1).

    What was observed is one of n + 1 draws under the null, so such a p is at most α with a probability of at most α.
    """
    return (1 + (drawn >= observed - ROUNDING).sum(0)).double() / (len(drawn) + 1)


def family_wise_p(observed: Float[Tensor, " h"], drawn: Float[Tensor, "n h"]) -> Float[Tensor, " h"]:
    """The same against the greatest of all h statistics of each draw: the chance of one false alarm or more.

    Each statistic is standardised by its own null: by the mean and the standard deviation of its draws. Under the
    null the observed one is a draw like the others, and counts as one, so that the error is exact. One that is the
    same in all draws is no alarm.

    Args:
        observed: of h hypotheses, shares of 1.
        drawn: of each of n draws, one row per draw: the h of a row belong to one draw and may depend on each other.
    """
    every = torch.cat([observed[None], drawn])
    spread = every.std(0, correction=0)
    varies = spread > ROUNDING
    unit = torch.where(varies, spread, 1.0)
    standard = torch.where(varies, (every - every.mean(0)) / unit, 0.0)
    greatest = standard.amax(1, keepdim=True)
    return (greatest >= standard[0] - ROUNDING / unit).double().mean(0)
