"""Two towers in float64 and open_clip's own runs of them, with edited weights or torch's own module hooks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin import HookedCLIP
from tests.conftest import TOWERS, random_clip, random_images

N_LAYERS, N_HEADS, N_TOKENS, D_HEAD, BATCH = 3, 4, 17, 12, 3
TOWERS_ABLATED = ["plain", "layer_scale"]


def assert_close(a: Tensor, b: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def exact_model(tower: str) -> HookedCLIP:
    return HookedCLIP.from_open_clip(random_clip(TOWERS[tower], torch.float64).requires_grad_(False))


@pytest.fixture
def images(model: HookedCLIP) -> Tensor:
    return random_images(model)


@pytest.fixture
def others(model: HookedCLIP) -> Tensor:
    return random_images(model, seed=1)


def point(name: str) -> HookPoint:
    hook_point = HookPoint()
    hook_point.name = name
    return hook_point


def encode_with(clip: nn.Module, images: Tensor, hooks: list[tuple[nn.Module, Callable]]) -> Tensor:
    """open_clip's M(I) with torch's own forward hooks on its modules."""
    with ExitStack() as stack:
        for module, hook in hooks:
            stack.callback(module.register_forward_hook(hook).remove)
        return clip.encode_image(images)


def mlp_out(clip: nn.Module, layer: int) -> nn.Module:
    return clip.visual.transformer.resblocks[layer].ls_2


def output_of(clip: nn.Module, images: Tensor, module: nn.Module) -> Tensor:
    seen: list[Tensor] = []
    encode_with(clip, images, [(module, lambda module, args, output: seen.append(output))])
    return seen[0]


def without_heads(clip: nn.Module, layer: int, heads: list[int]) -> nn.Module:
    """A copy whose attention cannot read these heads: their columns of the output weight are zero."""
    clip = copy.deepcopy(clip)
    for head in heads:
        weight = clip.visual.transformer.resblocks[layer].attn.out_proj.weight
        weight[:, head * D_HEAD : (head + 1) * D_HEAD] = 0
    return clip


def assert_same_gradients(
    model: HookedCLIP, images: Tensor, hooks: list, clip: nn.Module, module_hooks: list[tuple[nn.Module, Callable]]
) -> None:
    """Of the pixels: the hooked model's, and open_clip's ablated the same way."""
    direction = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.arange(1.0, BATCH + 1, dtype=torch.float64)
    pixels = images.clone().requires_grad_()
    ours = torch.autograd.grad((model.run_with_hooks(pixels, fwd_hooks=hooks) @ direction) @ weights, pixels)[0]
    theirs = torch.autograd.grad((encode_with(clip, pixels, module_hooks) @ direction) @ weights, pixels)[0]
    assert_close(ours, theirs)
    assert ours.abs().max() > 1e-3
