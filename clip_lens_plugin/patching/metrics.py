"""What a user's metric says of embeddings, looked at: one finite number per pair, of that pair's embedding alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Metric = Callable[[Tensor], Tensor]
"""Embeddings [b, e], not normalised, to one number each [b]."""

TAKES = "metric(embedding) takes embeddings [b, e] and gives a floating-point tensor [b], one number each"


ROUNDING = 8
"""Units in the last place of a gradient that are nothing but rounding."""


def measured(metric: Metric, embedding: Float[Tensor, "b e"]) -> Float[Tensor, " b"]:
    """What the metric gives.

    Raises:
        TypeError: if that is no tensor, or the metric cannot be called.
        ValueError: if it is another than one floating-point number for each embedding.
    """
    if not callable(metric):
        raise TypeError(f"{TAKES}; got {metric!r:.60} of type {type(metric).__name__} as metric.")
    found: Any = metric(embedding)
    if not isinstance(found, Tensor):
        raise TypeError(f"{TAKES}; it gave {found!r:.60} of type {type(found).__name__}.")
    if not found.is_floating_point() or found.shape != embedding.shape[:1]:
        hint = " Leave out the mean or sum over the pairs." if found.ndim == 0 else ""
        raise ValueError(
            f"{TAKES}; for embeddings of shape {list(embedding.shape)} it gave {found.dtype} of shape "
            f"{list(found.shape)}.{hint}"
        )
    return found


def on_cpu(values: Tensor) -> Float[Tensor, "..."]:
    """The same numbers in float64."""
    return values.detach().cpu().double()


def of_both_sides(
    metric: Metric, embeddings: tuple[Float[Tensor, "b e"], Float[Tensor, "b e"]]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """What the metric gives of corrupted and of clean inputs as they are, in float64 on the CPU.

    Raises:
        TypeError, ValueError: see :func:`measured`; a ValueError if a number is NaN or infinite.
    """
    corrupted, clean = (
        _finite(metric, each, side) for each, side in zip(embeddings, ("corrupted", "clean"), strict=True)
    )
    return corrupted, clean


def _finite(metric: Metric, embedding: Float[Tensor, "b e"], side: str) -> Float[Tensor, " b"]:
    with torch.no_grad():
        found = on_cpu(measured(metric, embedding))
    broken = (~found.isfinite()).nonzero().flatten().tolist()
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise ValueError(
            f"metric(embedding) of the {side} inputs is {float(found[broken[0]])} for pair {broken[0]}{more}: there is "
            f"nothing to compare with. Leave such pairs out, or give a metric that is finite."
        )
    return found


def gradient(metric: Metric, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b e"]:
    """The gradient of each pair's number with respect to its embedding.

    Raises:
        TypeError, ValueError: see :func:`measured`; a ValueError if the metric has no gradient, or a pair's number
            depends on other pairs' embeddings.
    """
    with torch.inference_mode(False), torch.enable_grad():
        given = embedding.detach().clone().requires_grad_()
        values = measured(metric, given)
        whole = (
            torch.autograd.grad(values.sum(), given, retain_graph=True, allow_unused=True)[0]
            if values.requires_grad
            else None
        )
        if whole is None:
            raise ValueError(
                "The metric has no gradient with respect to the embedding, which attribution patching needs: compute "
                "it by torch's functions, without detach, no_grad, numpy, comparisons or argmax. patch_heads takes any "
                "metric."
            )
        # Powers of two, so that a pair by itself has exactly its weight in the gradient of the weighted sum.
        weights = 0.5 ** (torch.arange(len(values), device=values.device) % 4)
        (weighted,) = torch.autograd.grad((values * weights.to(values.dtype)).sum(), given)
    expected = (whole * weights[:, None].to(whole.dtype)).nan_to_num()
    off = (weighted.nan_to_num() - expected).norm(dim=1)
    if bool((off > ROUNDING * torch.finfo(values.dtype).eps * (expected.norm(dim=1) + off)).any()):
        raise ValueError(
            "The metric of a pair depends on other pairs' embeddings (a mean or softmax over the pairs?), so no pair "
            "has an effect of its own. Give a metric that takes each embedding by itself."
        )
    return whole
