"""A run of a model with everything frozen but what one head reads of the stream: the independent check of a term."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens import ActivationCache

from clip_lens_plugin import HookedCLIP

WRITTEN = ("hook_mlp_out", "hook_attn_out")
STATISTICS = ("hook_scale", "hook_pattern", "hook_mlp_out", "hook_z_scale", "hook_bias_scale")


def read_by(model: HookedCLIP, stream: Float[Tensor, "b n d"], cache: ActivationCache, layer: int) -> Tensor:
    """The values [b, n, h, k] that a block's heads make of a stream, its LayerNorm's scale being that of the run."""
    block = model.blocks[layer]
    if f"blocks.{layer}.ln1.hook_scale" in cache:
        centred = stream - stream.mean(-1, keepdim=True)
        stream = centred / cache[f"blocks.{layer}.ln1.hook_scale"] * block.ln1.w + block.ln1.b
    return torch.einsum("bnd,hdk->bnhk", stream, block.attn.W_V) + block.attn.b_V


def added_through(
    model: HookedCLIP,
    images: Float[Tensor, "b c y x"],
    cache: ActivationCache,
    layer: int,
    head: int,
    written: Float[Tensor, "b n d"],
) -> Float[Tensor, "b e"]:
    """What the embedding loses if a head reads the stream without what was written there, all else frozen."""
    without = read_by(model, cache[f"blocks.{layer}.hook_resid_pre"] - written, cache, layer)[:, :, head]

    def other_values(v, hook):
        v = v.clone()
        v[:, :, head] = without
        return v

    def as_it_was(value, hook):
        return cache[hook.name]

    names = [f"blocks.{layer}.attn.{point}" for point in ("hook_pattern", "hook_z_scale", "hook_bias_scale")]
    names += [f"blocks.{l}.hook_mlp_out" for l in range(layer, model.cfg.n_layers)]
    names += [f"blocks.{l}.hook_attn_out" for l in range(layer + 1, model.cfg.n_layers)]
    names += ["ln_final.hook_scale"]
    names += [n for n in model.hook_dict if n.startswith("pool.") and n.rpartition(".")[2] in STATISTICS]
    hooks = [(name, as_it_was) for name in names if name in model.hook_dict]
    frozen = model.run_with_hooks(images, fwd_hooks=[(f"blocks.{layer}.attn.hook_v", other_values), *hooks])
    return model(images) - frozen
