"""What is rounding and no more: of a sum of parts, and of a variance over images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}
"""Greatest relative completeness error that is taken for rounding, by the coarsest dtype of the parts."""

SUMMED = 64 * torch.finfo(torch.float64).eps
"""Relative to a second moment, what its sum over images in float64 may be off by."""


def computed_noise(dtype: torch.dtype) -> float:
    """Relative size of what rounding leaves of a contribution that a model computed in this dtype.

    Eight units in the last place: the same image in batches of different sizes differs by less than one in the embedded
    model, and the error grows with depth.
    """
    return 8 * torch.finfo(dtype).eps


def stored_noise(dtype: torch.dtype) -> float:
    """The same of a number that was only rounded to this dtype."""
    return torch.finfo(dtype).eps


def least_variance(second_moment: float, noise: float) -> float:
    """The variance at or below which values with this second moment are all the same, but for rounding.

    Args:
        second_moment: the mean of their squared lengths.
        noise: relative size of the rounding of one value.
    """
    return second_moment * max(noise**2, SUMMED)


def psd_covariance(
    second_moment: Float[Tensor, "*batch k k"], mean: Float[Tensor, "*batch k"], noise: float
) -> Float[Tensor, "*batch k k"]:
    """E[y yᵀ] − E[y] E[y]ᵀ without what rounding left of the difference: it has no negative variance in any direction.

    A variance at or below rounding of the second moment is zero. Each coordinate is compared on its own scale.
    """
    scale = second_moment.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    both = scale[..., :, None] * scale[..., None, :]
    difference = (second_moment - mean[..., :, None] * mean[..., None, :]) / both
    values, axes = torch.linalg.eigh((difference + difference.mT) / 2)
    values = torch.where(values > least_variance(1.0, noise), values, 0.0)
    return (axes * values[..., None, :]) @ axes.mT * both
