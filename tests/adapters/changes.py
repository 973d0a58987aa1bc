"""What people do to a model before and after it is wrapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import open_clip.transformer as oc
import torch
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm


class LoRALinear(nn.Linear):
    """A linear layer with a low-rank part beside its weight."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features)
        self.load_state_dict(plain.state_dict())
        self.down, self.up = nn.Linear(plain.in_features, 2), nn.Linear(2, plain.out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.up(self.down(x))


class Shifted(nn.Module):
    """A parametrisation: what the layer computes with is the weight and a constant."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + 0.1


def blocks(clip: Any) -> Any:
    return clip.visual.transformer.resblocks


def low_rank(clip: Any) -> None:
    blocks(clip)[1].mlp.c_fc = LoRALinear(blocks(clip)[1].mlp.c_fc)


def bottleneck(clip: Any) -> None:
    blocks(clip)[0].mlp.add_module("adapter", nn.Linear(48, 48))


def sequence_for_linear(clip: Any) -> None:
    blocks(clip)[0].mlp.c_proj = nn.Sequential(blocks(clip)[0].mlp.c_proj, nn.Linear(48, 48))


def other_order(clip: Any) -> None:
    mlp = blocks(clip)[0].mlp
    mlp._modules = dict(reversed(list(mlp._modules.items())))


def extra_child(clip: Any) -> None:
    blocks(clip)[2].prompt = nn.Linear(48, 48)


def forward_hook(clip: Any) -> None:
    blocks(clip)[1].register_forward_hook(lambda module, given, found: found * 2)


def forward_pre_hook(clip: Any) -> None:
    blocks(clip)[1].attn.register_forward_pre_hook(lambda module, given: (given[0] * 2, *given[1:]))


def hook_on_visual(clip: Any) -> None:
    clip.visual.register_forward_hook(lambda module, given, found: found * 2)


def hook_on_convolution(clip: Any) -> None:
    clip.visual.conv1.register_forward_hook(lambda module, given, found: found * 2)


def own_forward(clip: Any) -> None:
    block = blocks(clip)[0]
    block.forward = lambda x, **_: x


def own_method(clip: Any) -> None:
    block = blocks(clip)[0]
    block.attention = lambda *_, **__: torch.zeros(1)


def own_compiled_call(clip: Any) -> None:
    blocks(clip)[0].mlp._compiled_call_impl = lambda x: 2 * x


def own_forward_of_tower(clip: Any) -> None:
    clip.visual.forward = lambda x: x.mean()


def norm_of_another_kind(clip: Any) -> None:
    class Centred(oc.LayerNorm):
        pass

    blocks(clip)[0].ln_1 = Centred(48)


def pruned(clip: Any) -> None:
    prune.random_unstructured(blocks(clip)[0].mlp.c_fc, "weight", 0.5)


def old_weight_norm(clip: Any) -> None:
    weight_norm(blocks(clip)[0].mlp.c_fc)


def old_spectral_norm(clip: Any) -> None:
    spectral_norm(blocks(clip)[0].mlp.c_fc)


def convolution_of_another_kind(clip: Any) -> None:
    class Adapted(nn.Conv2d):
        pass

    clip.visual.conv1 = Adapted(3, 48, 8, 8, bias=False)


def integer_weights(clip: Any) -> None:
    linear = blocks(clip)[0].mlp.c_fc
    linear.weight = nn.Parameter(torch.ones(192, 48, dtype=torch.int8), requires_grad=False)


CHANGES: dict[Callable[[Any], None], str] = {
    low_rank: r"visual\.transformer\.resblocks\.1\.mlp\.c_fc is a LoRALinear of tests",
    bottleneck: r"resblocks\.0\.mlp holds 'adapter', a Linear",
    sequence_for_linear: r"resblocks\.0\.mlp\.c_proj is a Sequential .* expected a plain linear layer",
    other_order: r"resblocks\.0\.mlp runs its parts in another order than c_fc, gelu, c_proj",
    extra_child: r"resblocks\.2 holds 'prompt', a Linear",
    forward_hook: r"resblocks\.1 has a forward hook, .*lambda.*hook_resid_post",
    forward_pre_hook: r"resblocks\.1\.attn has a forward-pre hook",
    hook_on_visual: r"visual has a forward hook",
    hook_on_convolution: r"visual\.conv1 has a forward hook",
    own_forward: r"resblocks\.0 has its own forward",
    own_method: r"resblocks\.0 has its own attention",
    own_compiled_call: r"resblocks\.0\.mlp has its own _compiled_call_impl",
    own_forward_of_tower: r"visual has its own forward",
    norm_of_another_kind: r"resblocks\.0\.ln_1 is a Centred",
    pruned: r"resblocks\.0\.mlp\.c_fc has a forward-pre hook, RandomUnstructured.*prune\.remove",
    old_weight_norm: r"forward-pre hook, WeightNorm.*remove_weight_norm",
    old_spectral_norm: r"forward-pre hook, SpectralNorm.*remove_spectral_norm",
    convolution_of_another_kind: r"visual\.conv1 is a Adapted",
    integer_weights: r"c_fc\.weight is a Parameter .* of torch\.int8.*Load the weights in float32",
}
"""What is done to a tower, and what the refusal says."""
