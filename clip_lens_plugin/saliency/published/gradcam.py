"""GradCAM on tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.layers.pooling.attention_pool import AttentionPool
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.saliency import equations
from clip_lens_plugin.saliency.contrast import cosines
from clip_lens_plugin.saliency.published.attention_runs import (
    at_patches,
    last_attention,
    outside_inference,
    stream_at,
    wide,
)


def gradcam(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    """GradCAM on the tokens that the last attention reads, their model width as channels.

    They are what the last layer's first LayerNorm puts out (``ln1``; the stream itself where a layer has none before
    its heads), at the patches: the layer that the pytorch-grad-cam library takes for CLIP, since the tokens after the
    last layer have no gradient where a class token is pooled. Where attention pools, they are what ``ln_final`` puts
    out. What the layer adds its output to is no part of them.
    """
    first = last_attention(model)
    stream = stream_at(model, images, first)
    with torch.inference_mode(False), torch.enable_grad():
        stream, contrasts = outside_inference(stream).detach(), outside_inference(contrasts)
        tokens = _read(model, stream).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cosines(_embedding(model, stream, tokens), contrasts).sum(), tokens)
    prefix = model.cfg.n_prefix_tokens
    with full_precision():
        return at_patches(model.cfg, equations.class_activation(wide(tokens)[:, prefix:], wide(gradient)[:, prefix:]))


def _read(model: ImageModel, stream: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """What the last attention reads of the stream before it."""
    if isinstance(model.pooling, AttentionPool):
        return model.ln_final(stream)
    norm = model.blocks[-1].first_norm
    return stream if norm is None else norm(stream)


def _embedding(model: ImageModel, stream: Float[Tensor, "b n d"], read: Float[Tensor, "b n d"]) -> Float[Tensor, "b e"]:
    """The rest of the run, in which the last attention reads those tokens."""
    if isinstance(model.pooling, AttentionPool):
        return model.project(model.pooling.after_norm(read))
    block = model.blocks[-1]
    return model.finish(block.after_attention(stream + block.attn(read)), {})
