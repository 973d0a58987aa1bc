"""Maps from the gradients of attention patterns: Chefer's relevance, GradCAM on attention and Grad-ECLIP."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.layers.pooling.attention_pool import AttentionPool
from clip_lens_plugin.model.property_errors import NotAvailableError
from clip_lens_plugin.model.protocol import ImageModel, ImageTextModel
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.saliency import equations
from clip_lens_plugin.saliency.published.attention_runs import (
    Attended,
    at_patches,
    attention_gradients,
    images_at_once,
    last_attention,
    pooled_queries,
)


def chefer(
    model: ImageTextModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    """Relevance propagated through all layers: the class token's row of R.

    The target is the contrast of logits, ``model.logit_scale`` times that of cosines, as in the authors' code for CLIP:
    R is not linear in it. It is the cosines' own where an image tower has no text tower. Where the mean over patches is
    pooled, the mean of their rows; where attention pools, its query is to the tokens what a decoder's is to an encoder.
    """
    return _relevance(model, images, contrasts * _logit_scale(model), 0)


def chefer_last(
    model: ImageTextModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    """The same of the last attention alone, which is what the authors' own notebook for CLIP shows.

    It is linear in the target.
    """
    return _relevance(model, images, contrasts, last_attention(model))


def gradcam_attention(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    """GradCAM on the last attention, whose heads are its channels: "GradCAM" in the tables of Chefer et al.

    A channel's map is what its query attends to: the class token's row of a head. Where several tokens are pooled, each
    query of each head is a channel.
    """
    cfg = model.cfg
    n_patches = cfg.grid_size[0] * cfg.grid_size[1]
    last = _last(model, images, contrasts)
    places, gradient = (each[..., -n_patches:].flatten(1, 2).mT for each in (last.pattern, last.gradient))
    return at_patches(cfg, equations.class_activation(places, gradient))


def grad_eclip(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    """Grad-ECLIP on the last attention: values weighted by channel (gradients) and place (loosened attention).

    The model runs as it is, with its own number of heads (the authors' code runs its last layer with one), and queries
    and keys are compared as attention compares them. Where several tokens are pooled, their maps are added before the
    negative part is cut; an attention pool's own queries, keys and values where there is one.
    """
    cfg, last = model.cfg, model.cfg.n_layers - 1
    n_patches = cfg.grid_size[0] * cfg.grid_size[1]
    pool = isinstance(model.pooling, AttentionPool)
    block = f"blocks.{last}.attn."
    q_name, key_name = (
        ("pool.hook_q", "pool.hook_k") if pool else (block + each for each in model.blocks[last].attn.compared)
    )
    found = []
    for few, their in _parts(model, images, contrasts, last_attention(model)):
        (attended,), kept = attention_gradients(model, few, their, last_attention(model), (q_name, key_name))
        with full_precision():
            q = pooled_queries(model, kept[q_name], 1)
            loosened = equations.loosened_attention(q, kept[key_name][:, -n_patches:])
            gradient = pooled_queries(model, attended.gradient, 2)[..., -n_patches:]
            found.append(equations.loosely_attended(loosened.to(gradient), gradient))
    return at_patches(cfg, torch.cat(found))


def _last(model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]) -> Attended:
    """The last attention of all images, at the queries that are pooled."""
    runs = [
        attention_gradients(model, *part, last_attention(model))[0][0]
        for part in _parts(model, images, contrasts, last_attention(model))
    ]
    every = Attended(torch.cat([each.pattern for each in runs]), torch.cat([each.gradient for each in runs]))
    return Attended(pooled_queries(model, every.pattern, 2), pooled_queries(model, every.gradient, 2))


def _relevance(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"], first: int
) -> Float[Tensor, "b rows columns"]:
    """Relevance of the patches to what is pooled, through the layers from one on."""
    parts = _parts(model, images, contrasts, first)
    return torch.cat([_propagated(model, attention_gradients(model, *part, first)[0]) for part in parts])


@full_precision()
def _propagated(model: ImageModel, attended: list[Attended]) -> Float[Tensor, "b rows columns"]:
    attention = [equations.relevant_attention(each.pattern, each.gradient) for each in attended]
    pool = attention.pop() if isinstance(model.pooling, AttentionPool) else None
    some = attended[0].pattern
    relevance = torch.eye(model.cfg.n_ctx).to(some).expand(len(some), -1, -1)
    for each in attention:
        relevance = equations.more_relevance(relevance, each)
    if pool is not None:
        return at_patches(model.cfg, equations.relevance_to_query(pool, relevance)[:, 0])
    return at_patches(model.cfg, pooled_queries(model, relevance, 1).mean(1))


def _parts(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"], first: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """As many images at once as a run takes that keeps what is after a layer for the way back."""
    size = images_at_once(model, first)
    return zip(images.split(size), contrasts.split(size), strict=True)


def _logit_scale(model: ImageTextModel) -> float:
    try:
        return model.logit_scale
    except NotAvailableError:
        return 1.0
