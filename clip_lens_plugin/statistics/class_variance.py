"""The share of a variance that lies between classes: plain functions on tensors, without a model or a class.

Letters as in :mod:`clip_lens_plugin.decomposition.equations`; c counts classes.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_labels
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.numerics.noise import computed_noise, least_variance


@torch.no_grad()
def eta_squared(values: Float[Tensor, "b *columns"], labels: Any, dim: int | None = None) -> Float[Tensor, "..."]:
    """The share of each column's variance over the images that lies between classes: η², the correlation ratio squared.

    ``η² = Σ_c n_c ‖x̄_c − x̄‖² / Σ_b ‖x_b − x̄‖²``, with x̄_c the mean over the n_c images of a class and x̄ over all n:
    0 where the means of the classes are the same, 1 where a column is the same for all images of a class. Any labels
    explain something: with C classes (C − 1) / (n − 1) on the average over all permutations of them. Of heads,
    :func:`~clip_lens_plugin.class_heads` says it without keeping their contributions.

    Args:
        values: one row per image, such as the activations of neurons, or what they add towards texts.
        labels: the class of each image, a whole number from 0; -1 where it is not known, and the image is left out.
        dim: the axis that holds the coordinates of one vector, such as -1 of scores towards several texts: their
            variances are summed, between classes and in all. If not given, every column stands by itself.

    Returns:
        One number per column, float64, 0 to 1; NaN where a column is the same for all images, but for rounding: where
        its root mean square varies by less than about eight units in the last place of ``values.dtype``.

    Raises:
        TypeError: if values are no tensor.
        ValueError: if values are not finite; if labels are no whole numbers of at least -1, more or fewer than rows, or
            of fewer than two classes; or if ``dim`` is no axis after the first.
    """
    if not isinstance(values, Tensor):
        raise TypeError(f"values must be a tensor with one row per image, got {type(values).__name__}.")
    n_axes = values.ndim
    if n_axes == 0 or not values.is_floating_point():
        raise ValueError(
            f"values must be floating-point numbers with one row per image, got {values.dtype} of shape "
            f"{list(values.shape)}."
        )
    if dim is not None and dim not in (*range(1, n_axes), *range(1 - n_axes, 0)):
        raise ValueError(
            f"dim must be an axis of values after that of the images; these are {list(values.shape)}, got {dim}."
        )
    classes = checked_labels(labels, len(values), None)
    known = classes >= 0
    present, place, counts = classes[known].unique(return_inverse=True, return_counts=True)
    if len(present) < 2:
        raise ValueError(f"Images of two or more classes are needed, got labels of {len(present)}.")
    rows = values[known.to(values.device)].double()
    if not bool(rows.isfinite().all()):
        raise ValueError("values hold NaN or infinity: leave such images out.")
    mean = rows.mean(0)
    away = rows - mean
    sums = sums_by_class(away, place.to(away.device), len(present))
    n_images = counts.to(away).reshape(-1, *(1 for _ in mean.shape))
    between, total = (sums.square() / n_images).sum(0), away.square().sum(0)
    square = total + len(rows) * mean.square()
    if dim is not None:
        between, total, square = (each.sum(dim % n_axes - 1) for each in (between, total, square))
    varies = total > square * least_variance(1.0, computed_noise(values.dtype))
    return torch.where(varies, between / total, torch.nan).clamp(max=1)


def sums_by_class(
    values: Float[Tensor, "b *rest"], classes: Int[Tensor, " b"], n_classes: int
) -> Float[Tensor, "c *rest"]:
    """``Σ_b [c(b) = c] x[b]`` for each class: with the numbers of images, all that a mean by class needs.

    As one product with a matrix of zeros and ones, which gives the same on a GPU every time, unlike adding by row.

    Args:
        classes: of each image, 0 to n_classes − 1.
    """
    belongs = classes == torch.arange(n_classes, device=classes.device)[:, None]
    return torch.tensordot(belongs.to(values.dtype), values, 1)


def distances_of_classes(
    sums: Float[Tensor, "c k"], counts: Float[Tensor, " c"], form: Float[Tensor, "k k"]
) -> Float[Tensor, " c"]:
    """``‖(ȳ_c − ȳ) M‖²``: how far, squared, the mean contribution of each class is from that of all images.

    Args:
        sums: Σ y over the images of each class.
        counts: images of each class, one or more.
        form: :func:`~clip_lens_plugin.decomposition.equations.gram` of the head's map.
    """
    means, mean = sums / counts[:, None], sums.sum(0) / counts.sum()
    return equations.quadratic(means - mean, form)


def shares_of_classes(
    distances: Float[Tensor, "c *heads"], counts: Float[Tensor, " c"], variance: Float[Tensor, "*heads"]
) -> Float[Tensor, "c *heads"]:
    """``n_c ‖(ȳ_c − ȳ) M‖² / Σ_b ‖(y_b − ȳ) M‖²``: each class's part of η², the share of a head's variance by classes.

    Their sum is η² = between / total. With labels permuted, the mean of a class's part is (1 − n_c / n) / (n − 1), and
    that of η² over all permutations is (C − 1) / (n − 1), whatever the data.

    Args:
        distances: :func:`distances_of_classes` of each head.
        counts: images of each class.
        variance: of each head's contribution over all images, over n.
    """
    return counts.reshape(-1, *(1 for _ in variance.shape)) * distances / (counts.sum() * variance)
