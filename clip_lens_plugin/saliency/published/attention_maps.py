"""Maps of where the model attends, whatever the text."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.layers.pooling.attention_pool import PATTERN, AttentionPool
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.saliency import equations
from clip_lens_plugin.saliency.published.attention_runs import (
    at_patches,
    last_attention,
    pattern_names,
    pooled_queries,
    wide,
)


def raw_attention(model: ImageModel, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b rows columns"]:
    """What the class token attends to in the last layer, the mean over its heads.

    Where the mean over patches is pooled, the mean over their rows; an attention pool's own pattern where there is one.
    """
    (name,) = pattern_names(model, last_attention(model))
    with torch.no_grad():
        pattern = model.run_with_cache(images, names_filter=name)[1][name]
    return at_patches(model.cfg, wide(pooled_queries(model, pattern, 2)).mean((1, 2)))


def rollout(model: ImageModel, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b rows columns"]:
    """Attention rollout through all layers: the class token's row.

    Where the mean over patches is pooled, the mean of their rows; where attention pools, its own pattern, the mean over
    its heads, is the last factor, without an identity, since its query is no token.
    """
    tokens = torch.eye(
        model.cfg.n_ctx, device=model.cfg.device, dtype=torch.promote_types(model.cfg.dtype, torch.float32)
    )
    joint, pooled = tokens.expand(len(images), -1, -1), torch.empty(0)

    @full_precision()
    def through(pattern: Tensor, hook: Any) -> None:
        nonlocal joint, pooled
        if hook.name == PATTERN:
            pooled = wide(pattern).mean(1)
        else:
            joint = equations.rolled_out(joint, wide(pattern))

    with torch.no_grad(), model.hooks(fwd_hooks=[(name, through) for name in pattern_names(model, 0)]):
        model(images)
    with full_precision():
        if isinstance(model.pooling, AttentionPool):
            return at_patches(model.cfg, (pooled @ joint[:, -pooled.shape[-1] :])[:, 0])
        return at_patches(model.cfg, pooled_queries(model, joint, 1).mean(1))
