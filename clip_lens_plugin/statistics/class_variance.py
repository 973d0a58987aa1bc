"""The share of a head's variance that lies between classes: plain functions on tensors, without a model or a class.

Letters as in :mod:`clip_lens_plugin.decomposition.equations`; c counts classes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.decomposition import equations


def sums_by_class(
    values: Float[Tensor, "b *rest"], classes: Int[Tensor, " b"], n_classes: int
) -> Float[Tensor, "c *rest"]:
    """``Σ_b [c(b) = c] x[b]`` for each class: with the numbers of images, all that a mean by class needs.

    As one product with a matrix of zeros and ones, which gives the same on a GPU every time, unlike adding by row.

    Args:
        classes: of each image, 0 to n_classes − 1.
    """
    belongs = classes == torch.arange(n_classes, device=classes.device)[:, None]
    return (belongs.to(values.dtype) @ values.flatten(1)).unflatten(1, values.shape[1:])


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
