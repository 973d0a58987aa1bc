"""What a head writes, in few orthonormal coordinates, and which texts span it: the steps of Algorithm 1.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, Algorithm 1; see :mod:`clip_lens_plugin.describe.spans`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.describe.equations import without_directions
from clip_lens_plugin.numerics.noise import computed_noise, least_variance
from clip_lens_plugin.statistics.moments import Moments

USED_UP = 1e-12
"""Relative squared length of what is left of a text at which it is used up."""


class Picked(NamedTuple):
    """Texts in the order in which they were picked, by TextSpan or by matching pursuit.

    Attributes:
        indices: their positions.
        explained: cumulative share of the variance.
        total: the variance; 0 if it is rounding alone.
        directions: that were removed, one per text, orthonormal [m, e].
    """

    indices: list[int]
    explained: list[float]
    total: float
    directions: Float[Tensor, "m e"]


@dataclass(frozen=True)
class HeadFrame:
    """A head's contributions in r orthonormal coordinates of the span of its data, float64.

    Attributes:
        axes: of the coordinates in the joint space, that of the greatest second moment first [e, r].
        mean: over the images [r].
        covariance: likewise [r, r].
        least: variance that is rounding alone.
    """

    axes: Float[Tensor, "e r"]
    mean: Float[Tensor, " r"]
    covariance: Float[Tensor, "r r"]
    least: float

    @classmethod
    def of(cls, readout: Readout, moments: Moments, layer: int, head: int) -> HeadFrame:
        """The frame of one head; making it costs more than picking texts in it, so it is made once for all texts.

        The paper projects on the row space of the data, which is smaller than the head's span where the images are few
        or the head does not use all it has: so orthonormal coordinates x = y F of that span are turned to the principal
        axes of E[x xᵀ], which are the right singular vectors of the contributions themselves (their mean not removed,
        as in the paper's script), greatest first; those without any data but rounding are dropped.
        """
        head_map = readout.head_map(layer, head, moments.constants).detach().double()
        second = moments.second_moment(layer, head).to(head_map.device)
        mean = moments.mean[layer, head].to(head_map.device)
        to_span, in_span = equations.orthonormal_frame(head_map)
        in_second = equations.moment_in(to_span, second)
        return cls.spanned(in_span, equations.contribution(mean, to_span), in_second, noise_of(readout, moments))

    @classmethod
    def spanned(
        cls, span: Float[Tensor, "e s"], mean: Float[Tensor, " s"], second: Float[Tensor, "s s"], noise: float
    ) -> HeadFrame:
        """The frame of data in s orthonormal coordinates, turned to principal axes; axes of rounding alone dropped.

        Args:
            span: of the coordinates, in the space that the axes are wanted in.
            mean, second: E[x] and E[x xᵀ] of the data in these coordinates.
            noise: see :func:`noise_of`.
        """
        values, axes = torch.linalg.eigh(second)
        used = axes.flip(1)[:, (values > least_variance(float(values.clamp(min=0).sum()), noise)).flip(0)]
        x_mean, x_second = equations.contribution(mean, used), equations.moment_in(used, second)
        least = least_variance(float(x_second.trace()), noise)
        return cls(span @ used, x_mean, x_second - torch.outer(x_mean, x_mean), least)

    @property
    def second_moment(self) -> Float[Tensor, "r r"]:
        """E[x xᵀ]."""
        return self.covariance + torch.outer(self.mean, self.mean)

    @property
    def rank(self) -> int:
        """The rank of what the head writes, r."""
        return self.axes.shape[1]

    def picked(self, texts: Float[Tensor, "t e"], n: int, rank: int | None = None) -> Picked:
        """The texts along which the head varies most, each without the directions of those before it.

        The variance along text j is r_jᵀ Σ r_j. Removing a direction d from the texts leaves r_jᵀ (Q Σ Q) r_j with
        Q = I − d dᵀ; as the removed directions are orthonormal, it is enough to remove d from every r and keep Σ.

        Args:
            texts: unit embeddings, float64, on the device of the frame.
            n: texts at most.
            rank: principal axes that texts are projected on; all if not given.
        """
        residual = equations.contribution(texts, self.axes)
        if rank is not None:
            residual[:, rank:] = 0.0
        total = float(self.covariance.trace())
        found = pursued(residual, partial(equations.quadratic, form=self.covariance), total, self.least, n)
        return found._replace(directions=equations.contribution(found.directions, self.axes.T))


def noise_of(readout: Readout, moments: Moments) -> float:
    """Relative size of what rounding left of the contributions that moments are of."""
    return computed_noise(readout.model_dtype) if moments.noise is None else moments.noise


def pursued(
    texts: Float[Tensor, "t r"],
    variance: Callable[[Float[Tensor, "*t r"]], Float[Tensor, "*t"]],
    total: float,
    least: float,
    n: int,
) -> Picked:
    """The texts along which data vary most, each without the directions of those before it.

    Args:
        texts: in the coordinates of the data.
        variance: of the data along each of some vectors in these coordinates.
        total: variance of the data.
        least: variance that is rounding alone; a variance of as much or less is none.
        n: texts at most.

    Returns:
        With the directions in the same coordinates.
    """
    left, residual = total, texts
    if not total > least:
        return Picked([], [], 0.0, texts[:0])
    smallest = USED_UP * float(texts.square().sum(1).max())
    indices: list[int] = []
    explained: list[float] = []
    removed = [texts[:0]]
    for _ in range(min(n, *texts.shape)):
        best = int(variance(residual).argmax())
        norm = residual[best].norm()
        if float(norm.square()) <= smallest:
            break
        direction = residual[best] / norm
        gained = float(variance(direction))
        if gained <= least:
            break
        left -= gained
        residual = without_directions(residual, direction[None])
        indices.append(best)
        removed.append(direction[None])
        explained.append(1.0 - max(left, 0.0) / total)
    return Picked(indices, explained, total, torch.cat(removed))
