"""LeGrad: how sensitive the features of each layer are to its own attention.

Source: Bousselham et al., "LeGrad: An Explainability Method for Vision Transformers via Feature Formation Sensitivity",
ICCV 2025.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.layers.pooling.attention_pool import PATTERN, AttentionPool
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.saliency import equations
from clip_lens_plugin.saliency.contrast import cosines
from clip_lens_plugin.saliency.published.attention_runs import at_patches, following, outside_inference, stream_at, wide


def legrad(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    """The mean over all layers of the positive part of ∂s_l/∂A_l, over heads and queries.

    s_l is the contrast of layer l's own features: the mean of all its tokens, through ``ln_final`` and the projection,
    as in the authors' code. Where attention pools, its pattern takes the place of A_l and what it makes of the layer's
    tokens that of the features, as they do for SigLIP and CoCa; ``ln_final`` is before it, as in the model, and there
    is no correction by an empty text. Their code takes the last two layers unless others are given; their paper, all.
    """
    pooled = isinstance(model.pooling, AttentionPool)
    names = [PATTERN if pooled else f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    stream, found = stream_at(model, images, 0), []
    with following(model, list(dict.fromkeys(names))) as seen:
        stream, contrasts = outside_inference(stream), outside_inference(contrasts)
        for name, block in zip(names, model.blocks, strict=True):
            with torch.set_grad_enabled(not pooled):
                after = block(stream)
            target = cosines(_features(model, after), contrasts).sum()
            (gradient,) = torch.autograd.grad(target, seen[name])
            found.append(equations.formation_sensitivity(wide(gradient)))
            stream = after.detach()
    return at_patches(model.cfg, torch.stack(found).mean(0))


def _features(model: ImageModel, stream: Float[Tensor, "b n d"]) -> Float[Tensor, "b e"]:
    """A layer's features in the joint space."""
    if isinstance(model.pooling, AttentionPool):
        return model.finish(stream, {})
    return model.project(model.ln_final(stream.mean(1, keepdim=True))[:, 0])
