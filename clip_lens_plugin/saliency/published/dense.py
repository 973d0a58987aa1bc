"""Maps of dense features: each patch's own vector in the joint space, and its cosine with the text.

A patch's features are read out as if it were the only token: ``ln_final``, the pooling's own maps and the projection.
Where attention pools (SigLIP, PE, CoCa), that is its values and its output, with its MLP or LayerNorm after it: what
the pool makes of that token alone.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.saliency.contrast import cosines
from clip_lens_plugin.saliency.published.attention_runs import at_patches, stream_at


def patches(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    """Cosines of the last stream's patches."""
    return _read_out(model, stream_at(model, images, model.cfg.n_layers), contrasts)


def maskclip(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    """Cosines of the last layer's values, each token's own, through its output projection.

    Source: Zhou, Loy and Dai, "Extract Free Dense Labels from CLIP", ECCV 2022, section 3.1: queries and keys are left
    out. The stream that the layer adds to, and its MLP, are left out as well, as in the tables of ClearCLIP (Lan et
    al., ECCV 2024); the authors' code for vision transformers keeps both.
    """
    with torch.no_grad():
        return _read_out(model, model.blocks[-1].attn.out(_last_values(model, images)), contrasts)


def v_v(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    """Cosines of what the last layer's heads write if values are compared with values: softmax(V Vᵀ / √k) V.

    Source: the attention of Li et al., "CLIP Surgery", 2023, section 3.2, in the arrangement of Lan et al.,
    "ClearCLIP", ECCV 2024: in the last layer alone, without the stream that it adds to and without its MLP. (CLIP
    Surgery adds up what the last six layers write so.)
    """
    with torch.no_grad():
        v = _last_values(model, images)
        by_head = v.transpose(1, 2)
        attended = torch.nn.functional.scaled_dot_product_attention(
            by_head, by_head, by_head, scale=1 / math.sqrt(v.shape[-1])
        )
        return _read_out(model, model.blocks[-1].attn.out(attended.transpose(1, 2)), contrasts)


def _last_values(model: ImageModel, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b n h k"]:
    stream, block = stream_at(model, images, model.cfg.n_layers - 1), model.blocks[-1]
    read = stream if block.first_norm is None else block.first_norm(stream)
    return block.attn.qkv(read, block.attn.n_heads)[2]


def _read_out(
    model: ImageModel, stream: Float[Tensor, "b n d"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    with torch.no_grad():
        features = model.pooling.of_each(stream, model.ln_final)
        embeddings = model.project(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        with full_precision():
            return at_patches(model.cfg, cosines(embeddings, contrasts))
