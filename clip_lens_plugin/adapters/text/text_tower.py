"""Reads the parts of open_clip's own text tower, or says which feature is not supported."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from open_clip.model import CLIP
from torch import Tensor, nn

from clip_lens_plugin.adapters.checks.structure import refuse_other_structure
from clip_lens_plugin.adapters.open_clip_tower import open_clip_block, refuse_unsupported_blocks
from clip_lens_plugin.adapters.tower import TextParts, activation_name, text_refusal
from clip_lens_plugin.layers.config import HookedTextConfig
from clip_lens_plugin.layers.embedding.text_embed import OpenCLIPTextEmbed, TextEmbed, TextTransformerEmbed
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.pooling.token_pooling import Always, FirstOf, TokenPooling, greatest
from clip_lens_plugin.layers.weight_refs import Affine, Norm, Weight


class TextOfCLIP(nn.Module):
    """The modules and parameters of a ``CLIP``'s text tower, which open_clip keeps on the model itself.

    Nothing is copied. What a run reads is read from the model.
    """

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.token_embedding, self.transformer, self.ln_final = clip.token_embedding, clip.transformer, clip.ln_final
        self.positional_embedding, self.text_projection = clip.positional_embedding, clip.text_projection
        self._clip = (clip,)  # In a tuple it is no child.

    @property
    def clip(self) -> CLIP:
        """The model."""
        return self._clip[0]


def text_of_clip_parts(tower: TextOfCLIP, model_name: str) -> TextParts:
    """The parts of a ``CLIP``'s text tower; see :func:`text_transformer_parts`."""
    clip: Any = tower.clip
    pool = clip.text_pool_type, clip.text_eos_id
    return _parts(tower, clip, OpenCLIPTextEmbed(clip), *pool, has_class_token=False, model_name=model_name)


def text_transformer_parts(tower: Any, model_name: str) -> TextParts:
    """The parts of open_clip's ``TextTransformer``.

    Raises:
        UnsupportedTowerError: for a feature that is not supported; the message names it.
    """
    pool = tower.pool_type, tower.eos_id
    has_class_token = tower.cls_emb is not None
    return _parts(tower, tower, TextTransformerEmbed(tower), *pool, has_class_token, model_name)


def _parts(
    tower: nn.Module,
    holder: Any,
    embed: TextEmbed,
    pool_type: str,
    eos: int,
    has_class_token: bool,
    model_name: str,
) -> TextParts:
    refuse = partial(text_refusal, model_name)
    blocks, width = holder.transformer.resblocks, holder.ln_final.normalized_shape[0]
    refuse_unsupported_blocks(blocks, refuse)
    refuse_other_structure(tower, model_name, "text")
    n_ctx = holder.positional_embedding.shape[0]
    name, position = _pooled(pool_type, eos, n_ctx, has_class_token, refuse)
    projection, weight = holder.text_projection, holder.token_embedding.weight
    linear = isinstance(projection, nn.Linear)
    first = blocks[0]
    cfg = HookedTextConfig(
        model_name=model_name,
        n_layers=len(blocks),
        n_heads=first.attn.num_heads,
        d_model=width,
        d_head=width // first.attn.num_heads,
        d_mlp=first.mlp.c_fc.out_features,
        n_ctx=n_ctx,
        d_embed=width if projection is None else projection.out_features if linear else projection.shape[1],
        context_length=n_ctx - has_class_token,
        has_class_token=has_class_token,
        d_vocab=weight.shape[0],
        act_fn=activation_name(first.mlp.gelu),
        pooling=name,
        device=weight.device,
        dtype=first.mlp.c_fc.weight.dtype,
    )
    return TextParts(
        cfg=cfg,
        embed=embed,
        position=position,
        blocks=[open_clip_block(block) for block in blocks],
        ln_final=LayerNorm(Norm(holder.ln_final)),
        pooling=TokenPooling(name),
        project=None if projection is None else Affine(projection) if linear else Weight(holder, "text_projection"),
        source_blocks=list(blocks),
    )


def _pooled(
    pool_type: str, eos: int, n_ctx: int, has_class_token: bool, refuse: Callable[[str], Exception]
) -> tuple[str, Callable[[Tensor], Tensor]]:
    """Which token is pooled, and its position from the ids."""
    if has_class_token:
        return "class_token", Always(n_ctx - 1)
    known = {"argmax": greatest, "eos": FirstOf(eos), "last": Always(n_ctx - 1), "first": Always(0)}
    if pool_type not in known:
        raise refuse(f"pool_type={pool_type!r} instead of {', '.join(map(repr, known))}")
    return pool_type, known[pool_type]
