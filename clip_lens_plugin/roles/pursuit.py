"""TextSpan's picks for many heads, pools or data sets at once, each in its own principal axes.

In the axes in which the covariance Λ is diagonal, texts are kept times Λ^½: the squared length is the variance along a
text, and a step needs two products with them, see :func:`~clip_lens_plugin.describe.equations.variance_left`. Residuals
of all texts are never made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.decomposition.equations import along
from clip_lens_plugin.describe.equations import covariance_left, variance_left, without_directions
from clip_lens_plugin.describe.frames import USED_UP, HeadFrame

USED_UP_ROUGHLY = 1e-9
"""The same for texts in float32."""

LEAST_ROOT = 1e-5
"""Of the greatest standard deviation: axes of less are shortened no further, since they have to be lengthened again."""


class EachPicked(NamedTuple):
    """Texts of b problems in the order in which they were picked.

    Attributes:
        indices: their positions; −1 where there are fewer than n.
        gained: variance that each explains, 0 where there is none.
    """

    indices: Int[Tensor, "b n"]
    gained: Float[Tensor, "b n"]


class PrincipalFrames(NamedTuple):
    """What b heads write in the principal axes of their covariances, filled up with axes of zero where one has fewer.

    Attributes:
        axes: in the space of the frames that they are of, each as long as the root of its variance [b, e, r].
        roots: these lengths, see :data:`LEAST_ROOT` [b, r].
        variances: along the axes [b, r].
        least: variance that is rounding alone [b].
    """

    axes: Float[Tensor, "b e r"]
    roots: Float[Tensor, "b r"]
    variances: Float[Tensor, "b r"]
    least: Float[Tensor, " b"]

    @classmethod
    def of(cls, frames: Sequence[HeadFrame]) -> PrincipalFrames:
        """The principal frames of one or more frames, in float64."""
        first, wide = frames[0].axes, max(frame.rank for frame in frames)
        axes = first.new_zeros(len(frames), len(first), wide)
        variances = first.new_zeros(len(frames), wide)
        for at, frame in enumerate(frames):
            values, turn = torch.linalg.eigh(frame.covariance)
            axes[at, :, : frame.rank] = frame.axes @ turn
            variances[at, : frame.rank] = values.clamp(min=0)
        least_root = LEAST_ROOT * variances.amax(1, keepdim=True).sqrt()
        roots = torch.maximum(variances.sqrt(), least_root).clamp(min=torch.finfo(torch.float64).tiny)
        least = torch.tensor([frame.least for frame in frames], dtype=torch.float64, device="cpu").to(first)
        return cls(axes * roots[:, None], roots, variances, least)

    @property
    def total(self) -> Float[Tensor, " b"]:
        """The variance of each."""
        return self.variances.sum(1)


def pursued_each(texts: Float[Tensor, "b t r"], frames: PrincipalFrames, n: int) -> EachPicked:
    """What :func:`~clip_lens_plugin.describe.frames.pursued` picks, for b problems at once.

    Args:
        texts: ``texts @ frames.axes`` of each problem's texts, in float32 or float64.
        frames: of the problems.
        n: texts at most.
    """
    b, t, r = texts.shape
    _, roots, variances, least = frames
    of_each = torch.arange(b, device="cpu").to(texts.device)
    left = torch.linalg.vector_norm(texts, dim=-1).square()
    used_up = USED_UP if texts.dtype == torch.float64 else USED_UP_ROUGHLY
    going = frames.total > least
    indices = torch.full((b, n), -1, device=texts.device)
    gained = variances.new_zeros(b, n)
    removed, removed_projections = variances.new_empty(b, n, r), texts.new_empty(b, n, t)
    for step in range(min(n, t, r)):
        best = left.argmax(1)
        own = texts[of_each, best].double() / roots
        rest = own[:, None]
        for _ in range(2):  # By rounding, one removal leaves a rest that a second takes away.
            rest = without_directions(rest, removed[:, :step])
        rest = rest[:, 0]
        length = rest.square().sum(1)
        direction = removed[:, step] = rest / length.clamp(min=torch.finfo(torch.float64).tiny).sqrt()[:, None]
        weighed = direction * variances  # Σ u
        of_each_removed = along(removed[:, : step + 1], weighed)
        gain = of_each_removed[:, step]
        going = going & (length > used_up * own.square().sum(1)) & (gain > least)
        indices[:, step] = torch.where(going, best, -1)
        gained[:, step] = torch.where(going, gain, 0.0)
        if step + 1 == n:
            break
        both = torch.stack([direction / roots, weighed / roots], dim=1).to(texts)
        projections, covariance = (both @ texts.mT).unbind(1)  # Twice as fast as the other way round.
        earlier = of_each_removed[:, :step].to(texts)
        covariance = covariance_left(covariance, removed_projections[:, :step], earlier)
        left = variance_left(left, projections, covariance, gain.to(texts))
        left[of_each, best] = -torch.inf
        removed_projections[:, step] = projections
    return EachPicked(indices, gained)
