"""A LayerNorm whose scale is listened to, against the formula and against the norm that nobody listens to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.weight_refs import Norm

WIDTH = 24


@pytest.fixture
def norm() -> LayerNorm:
    torch.manual_seed(3)
    module = nn.LayerNorm(WIDTH, eps=1e-5)
    nn.init.normal_(module.weight)
    nn.init.normal_(module.bias)
    return LayerNorm(Norm(module))


def by_formula(norm: LayerNorm, x: Tensor, scale: Tensor | None = None) -> Tensor:
    wide = x.double()
    centred = wide - wide.mean(-1, keepdim=True)
    own = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / (own if scale is None else scale.double()) * norm.w.double() + norm.b.double()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hook_that_looks_at_the_scale_changes_no_bit(
    norm: LayerNorm, context: Callable[[], torch.no_grad], dtype: torch.dtype
) -> None:
    norm.to(dtype)
    x, seen = torch.randn(2, 5, WIDTH, dtype=dtype), []
    with context():
        plain = norm(x)
        norm.hook_scale.add_hook(lambda scale, hook: seen.append(scale.clone()))
        assert torch.equal(norm(x), plain)
    wide = x.double()
    torch.testing.assert_close(
        seen[0].double(), (wide.var(-1, keepdim=True, correction=0) + 1e-5).sqrt(), rtol=1e-6, atol=0
    )


def in_place(scale: Tensor, hook: object) -> None:
    scale[:, 1] = 2.0


def past_the_counter(scale: Tensor, hook: object) -> None:
    scale.data[:, 1] = 2.0


def through_numpy(scale: Tensor, hook: object) -> None:
    scale.numpy()[:, 1] = 2.0


def returned(scale: Tensor, hook: object) -> Tensor:
    scale = scale.clone()
    scale[:, 1] = 2.0
    return scale


@pytest.mark.parametrize("edit", [in_place, past_the_counter, through_numpy, returned])
@pytest.mark.parametrize("gradients", [False, True])
def test_an_edited_scale_divides(norm: LayerNorm, edit: Callable[..., object], gradients: bool) -> None:
    norm.requires_grad_(False)
    x = torch.randn(2, 5, WIDTH)
    scale = (x.double().var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    scale[:, 1] = 2.0
    norm.hook_scale.add_hook(edit)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(norm(x).double(), by_formula(norm, x, scale), rtol=1e-5, atol=1e-5)
