"""Whether a bridge and a ``HookedCLIP`` give the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformer_lens import ActivationCache


def assert_same(found: Any, expected: Any, what: str) -> None:
    """Equal tensors, or sequences of such; anything else by ``==``."""
    if isinstance(expected, Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10, msg=lambda text: f"{what}: {text}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), what
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b, what)
    else:
        assert found == expected, what


def cached(model: Any, images: Tensor, **kwargs: Any) -> ActivationCache:
    return model.run_with_cache(images, **kwargs)[1]


def in_place(x: Tensor, hook: Any) -> None:
    x[:, :2] *= _factors(x)[:, :2]


def returned(x: Tensor, hook: Any) -> Tensor:
    return x * _factors(x)


def _factors(x: Tensor) -> Tensor:
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype) + 0.5
