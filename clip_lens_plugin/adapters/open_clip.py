"""Reads the parts of open_clip's own vision transformer, or says which feature is not supported."""

from __future__ import annotations

from typing import Any

from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn

from clip_lens_plugin.adapters.tower import TowerParts, UnsupportedTowerError, refusal
from clip_lens_plugin.components.attention import Attention
from clip_lens_plugin.components.block import Block
from clip_lens_plugin.components.embed import PatchEmbed
from clip_lens_plugin.components.layer_norm import LayerNorm
from clip_lens_plugin.components.mlp import MLP
from clip_lens_plugin.components.pooling import ClassTokenPooling, MeanThenNorm, NormThenMean, Pooling
from clip_lens_plugin.components.source import Affine, Norm, Scale
from clip_lens_plugin.config import HookedCLIPConfig


def open_clip_parts(tower: Any, model_name: str) -> TowerParts:
    """The parts of open_clip's own ``VisionTransformer``.

    Raises:
        UnsupportedTowerError: for any feature other than the plain ``VisionTransformer``'s; the message names it.
    """
    _refuse_unsupported(tower, model_name)
    first = tower.transformer.resblocks[0]
    n_heads = first.attn.num_heads
    d_model = tower.conv1.out_channels
    pooling = _pooling(tower)
    cfg = HookedCLIPConfig(
        model_name=model_name,
        n_layers=len(tower.transformer.resblocks),
        n_heads=n_heads,
        d_model=d_model,
        d_head=d_model // n_heads,
        d_mlp=first.mlp.c_fc.out_features,
        n_ctx=tower.positional_embedding.shape[0],
        d_embed=d_model if tower.proj is None else tower.proj.shape[1],
        image_size=pair(tower.image_size),
        patch_size=pair(tower.patch_size),
        act_fn="quick_gelu" if isinstance(first.mlp.gelu, QuickGELU) else "gelu",
        pooling=pooling.name,
        device=tower.conv1.weight.device,
        dtype=tower.conv1.weight.dtype,
    )
    return TowerParts(
        cfg=cfg,
        embed=PatchEmbed(tower, tower.conv1, tower.ln_pre),
        blocks=[_block(block) for block in tower.transformer.resblocks],
        ln_final=LayerNorm(Norm(tower.ln_post)),
        pooling=pooling,
        project=None if tower.proj is None else lambda: tower.proj,
    )


def _refuse_unsupported(tower: Any, model_name: str) -> None:
    def refuse(feature: str) -> UnsupportedTowerError:
        return refusal(model_name, feature)

    if tower.attn_pool is not None:
        raise refuse("attentional pooling (attn_pool, as in CoCa)")
    if tower.pool_type not in ("tok", "avg"):
        raise refuse(f"pool_type={tower.pool_type!r} instead of 'tok' (class token) or 'avg' (mean over the patches)")
    if not isinstance(tower.ln_post, nn.LayerNorm):
        raise refuse(f"{type(tower.ln_post).__name__} instead of a LayerNorm before the projection")
    if tower.ln_post.weight is None or tower.ln_post.bias is None:
        raise refuse("a LayerNorm without weight or bias")
    for block in tower.transformer.resblocks:
        if type(block) is not ResidualAttentionBlock:
            raise refuse(f"{type(block).__name__} (qk_norm, scaled cosine attention or head, attention and MLP scales)")
        if not isinstance(block.attn, nn.MultiheadAttention) or block.attn.in_proj_weight is None:
            raise refuse(f"attention of type {type(block.attn).__name__} without a packed projection")
        if block.attn.bias_k is not None or block.attn.add_zero_attn:
            raise refuse("attention with an added key and value (bias_k or add_zero_attn)")


def _pooling(tower: Any) -> Pooling:
    if tower.pool_type == "tok":
        return ClassTokenPooling()
    return MeanThenNorm() if tower.final_ln_after_pool else NormThenMean()


def _block(source: Any) -> Block:
    attention = source.attn
    return Block(
        ln1=LayerNorm(Norm(source.ln_1)),
        attn=Attention(
            qkv=Affine(attention, "in_proj_weight", "in_proj_bias"),
            out=Affine(attention.out_proj),
            scale=_layer_scale(source.ls_1),
            n_heads=attention.num_heads,
        ),
        ln2=LayerNorm(Norm(source.ln_2)),
        mlp=MLP(
            into=Affine(source.mlp.c_fc),
            act=source.mlp.gelu,
            out=Affine(source.mlp.c_proj),
            scale=_layer_scale(source.ls_2),
        ),
    )


def _layer_scale(source: nn.Module) -> Scale:
    return Scale(None if isinstance(source, nn.Identity) else source)


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size that may be one number."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)
