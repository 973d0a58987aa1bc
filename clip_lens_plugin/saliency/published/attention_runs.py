"""Runs of the model that keep attention patterns, and a contrast's gradients with respect to them.

The last attention is what decides where a tower looks: that of the last layer, at the tokens that are pooled (the class
token, or all patches where their mean is taken); or an attention pool's own, with its one query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.layers.config import HookedCLIPConfig
from clip_lens_plugin.layers.pooling.attention_pool import PATTERN, AttentionPool
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.saliency.contrast import cosines

RUN_BYTES = {"cpu": 2**30}
"""About what a run that keeps its activations for the way back may take, by kind of device."""
RUN_BYTES_ELSEWHERE = 2**33


@dataclass(frozen=True)
class Attended:
    """What the heads of one attention did: m queries, n tokens that they read, of which the patches are the last.

    Attributes:
        pattern: [b, h, m, n], float32 or better.
        gradient: of the contrast with respect to it.
    """

    pattern: Float[Tensor, "b h m n"]
    gradient: Float[Tensor, "b h m n"]


def pattern_names(model: ImageModel, first: int) -> list[str]:
    """Hook points of the patterns from a layer on, the attention pool's last, where there is one."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(first, model.cfg.n_layers)]
    return [*names, PATTERN] if isinstance(model.pooling, AttentionPool) else names


def last_attention(model: ImageModel) -> int:
    """The layer from which a run has to be followed for the last attention: no layer's where there is a pool."""
    return model.cfg.n_layers - (0 if isinstance(model.pooling, AttentionPool) else 1)


def pooled_queries(model: ImageModel, x: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """What lies along ``dim`` of the last attention's queries, at those that are pooled."""
    pool = isinstance(model.pooling, AttentionPool)
    rows = slice(None) if pool else model.pooling.positions
    return x[(slice(None),) * dim + (rows,)]


def at_patches(cfg: HookedCLIPConfig, values: Float[Tensor, "b n"]) -> Float[Tensor, "b rows columns"]:
    """What belongs to the patches, the last of the tokens, on their grid."""
    rows, columns = cfg.grid_size
    return values[:, -rows * columns :].unflatten(-1, cfg.grid_size)


def wide(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The same in float32 or better."""
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


@contextmanager
def following(model: ImageModel, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Inside, every run of the model leaves its activations at these hook points, ready for gradients, in the dict."""
    seen: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: Any) -> Tensor:
        # Where no weight asks for a gradient, this is where the way back ends.
        own = activation if activation.requires_grad else activation.detach().requires_grad_()
        seen[hook.name] = own
        return own

    with model.hooks(fwd_hooks=[(name, keep) for name in names]), torch.inference_mode(False), torch.enable_grad():
        yield seen


def stream_at(model: ImageModel, images: Float[Tensor, "b 3 height width"], layer: int) -> Float[Tensor, "b n d"]:
    """The stream that enters a layer, or leaves the last one, from a run without gradients."""
    with torch.no_grad():
        stream = model.begin(images).stream
        for block in list(model.blocks)[:layer]:
            stream = block(stream)
        return stream


def outside_inference(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The same; a copy where autograd would not take it."""
    return x.clone() if x.is_inference() else x


def attention_gradients(
    model: ImageModel,
    images: Float[Tensor, "b 3 height width"],
    contrasts: Float[Tensor, "b e"],
    first: int,
    also: Sequence[str] = (),
) -> tuple[list[Attended], dict[str, Tensor]]:
    """Patterns from a layer on with the contrasts' gradients, an attention pool's last; and further activations.

    Args:
        first: the layer; what is before it runs without gradients.
        also: hook points after it, of which the activations are given as they are.
    """
    names = pattern_names(model, first)
    stream = stream_at(model, images, first)
    with following(model, [*names, *also]) as seen:
        stream, contrasts = outside_inference(stream), outside_inference(contrasts)
        for block in list(model.blocks)[first:]:
            stream = block(stream)
        target = cosines(model.finish(stream, {}), contrasts).sum()
        gradients = torch.autograd.grad(target, [seen[name] for name in names])
    attended = [Attended(wide(seen[name]), wide(own)) for name, own in zip(names, gradients, strict=True)]
    return attended, {name: seen[name].detach() for name in also}


def images_at_once(model: ImageModel, first: int) -> int:
    """How many images such a run takes from a layer on."""
    cfg = model.cfg
    by_layer = 3 * cfg.n_heads * cfg.n_ctx**2 + cfg.n_ctx * (8 * cfg.d_model + 2 * cfg.d_mlp)
    each = max(1, cfg.n_layers - first) * by_layer * cfg.dtype.itemsize
    return max(1, RUN_BYTES.get(cfg.device.type, RUN_BYTES_ELSEWHERE) // each)
