"""Reads the parts of open_clip's own vision transformer, or says which feature is not supported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from open_clip.transformer import CustomResidualAttentionBlock, ResidualAttentionBlock
from torch import Tensor, nn

from clip_lens_plugin.adapters.checks.structure import refuse_other_structure
from clip_lens_plugin.adapters.tower import ImageParts, UnsupportedTowerError, activation_name, refusal
from clip_lens_plugin.layers.attention.attention import Attention
from clip_lens_plugin.layers.attention.output_projection import AttentionOutput, optional_norm, plain
from clip_lens_plugin.layers.attention.qkv import PackedQKV
from clip_lens_plugin.layers.block import Block
from clip_lens_plugin.layers.config import HookedCLIPConfig
from clip_lens_plugin.layers.embedding.patch_embed import PatchEmbed
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.mlp import MLP
from clip_lens_plugin.layers.pooling.attention_pool import AttentionPool
from clip_lens_plugin.layers.pooling.pooling import ClassTokenPooling, MeanThenNorm, NormThenMean, Pooling
from clip_lens_plugin.layers.weight_refs import Affine, Norm, Scale, Weight


def open_clip_parts(tower: Any, model_name: str) -> ImageParts:
    """The parts of open_clip's own ``VisionTransformer``.

    Raises:
        UnsupportedTowerError: for any feature other than the plain ``VisionTransformer``'s; the message names it.
    """
    _refuse_unsupported(tower, model_name)
    refuse_other_structure(tower, model_name)
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
        d_embed=tower.ln_post.normalized_shape[0] if tower.proj is None else tower.proj.shape[1],
        image_size=pair(tower.image_size),
        patch_size=pair(tower.patch_size),
        act_fn=activation_name(first.mlp.gelu),
        pooling=pooling.name,
        device=tower.conv1.weight.device,
        dtype=tower.conv1.weight.dtype,
    )
    return ImageParts(
        cfg=cfg,
        embed=PatchEmbed(tower, tower.conv1, tower.ln_pre),
        blocks=[open_clip_block(block) for block in tower.transformer.resblocks],
        ln_final=LayerNorm(Norm(tower.ln_post if tower.attn_pool is None else tower.attn_pool.ln_k)),
        pooling=pooling,
        project=None if tower.proj is None else Weight(tower, "proj"),
        source_blocks=list(tower.transformer.resblocks),
    )


def _refuse_unsupported(tower: Any, model_name: str) -> None:
    def refuse(feature: str) -> UnsupportedTowerError:
        return refusal(model_name, feature)

    if tower.attn_pool is not None:
        if tower.attn_pool_contrastive is not None:
            raise refuse(f"two attention pools (attentional_pool={tower.attn_pool_type!r})")
        if tower.pool_type != "tok":
            raise refuse(f"attention pooling with pool_type={tower.pool_type!r}: the mean over several queries")
        if not isinstance(tower.attn_pool.ln_k, nn.LayerNorm):
            raise refuse(f"{type(tower.attn_pool.ln_k).__name__} instead of a LayerNorm before its attention pool")
        pool = tower.attn_pool.attn
        if pool.bias_k is not None or pool.add_zero_attn:
            raise refuse("an attention pool with an added key and value (bias_k or add_zero_attn)")
    if tower.pool_type not in ("tok", "avg"):
        raise refuse(f"pool_type={tower.pool_type!r} instead of 'tok' (class token) or 'avg' (mean over the patches)")
    if not isinstance(tower.ln_post, nn.LayerNorm):
        raise refuse(f"{type(tower.ln_post).__name__} instead of a LayerNorm before the projection")
    if tower.ln_post.weight is None or tower.ln_post.bias is None:
        raise refuse("a LayerNorm without weight or bias")
    refuse_unsupported_blocks(tower.transformer.resblocks, refuse)


def refuse_unsupported_blocks(blocks: Iterable[Any], refuse: Callable[[str], UnsupportedTowerError]) -> None:
    """Raises what ``refuse`` makes of a feature's name, if a block has one that is not supported."""
    for block in blocks:
        if type(block) is CustomResidualAttentionBlock:
            if block.attn.logit_scale is not None:
                raise refuse("scaled cosine attention, which open_clip itself cannot run (its bmm takes three axes),")
            continue
        if type(block) is not ResidualAttentionBlock:
            raise refuse(f"blocks of type {type(block).__name__}")
        if not isinstance(block.attn, nn.MultiheadAttention) or block.attn.in_proj_weight is None:
            raise refuse(f"attention of type {type(block.attn).__name__} without a packed projection")
        if block.attn.bias_k is not None or block.attn.add_zero_attn:
            raise refuse("attention with an added key and value (bias_k or add_zero_attn)")


@dataclass(frozen=True)
class _Query:
    """The first of a pool's queries: they do not see each other, and only its answer becomes the embedding."""

    weight: Weight
    norm: nn.Module

    def __call__(self) -> Float[Tensor, " d"]:
        return self.norm(self.weight())


def _pooling(tower: Any) -> Pooling:
    if tower.attn_pool is not None:
        pooler = tower.attn_pool
        q, key, value, out = multi_head_parts(pooler.attn)
        return AttentionPool(
            query=_Query(Weight(pooler, "query", (0,)), pooler.ln_q),
            q=q,
            key=key,
            value=value,
            out=out,
            n_heads=pooler.attn.num_heads,
            ln_post=LayerNorm(Norm(tower.ln_post)),
        )
    if tower.pool_type == "tok":
        return ClassTokenPooling()
    return MeanThenNorm() if tower.final_ln_after_pool else NormThenMean()


def multi_head_parts(source: nn.MultiheadAttention) -> tuple[Affine, Affine, Affine, Affine]:
    """Projections of queries, keys, values and of what heads put out."""
    packed = source.in_proj_weight is not None
    names = ("in_proj_weight",) * 3 if packed else ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    q, key, value = (
        Affine(source, name, "in_proj_bias", weight_part=(i, 3) if packed else (0, 1), bias_part=(i, 3))
        for i, name in enumerate(names)
    )
    return q, key, value, Affine(source.out_proj)


def open_clip_block(source: Any) -> Block:
    """A block on the weights of open_clip's, plain or custom."""
    attention, mlp = source.attn, source.mlp
    custom = type(source) is CustomResidualAttentionBlock
    return Block(
        ln1=LayerNorm(Norm(source.ln_1)),
        attn=Attention(
            qkv=PackedQKV(Affine(attention, "in_proj_weight", "in_proj_bias")),
            out=_attention_output(source),
            n_heads=attention.num_heads,
            prepare_q=_unless_plain(attention.ln_q) if custom else None,
            prepare_k=_unless_plain(attention.ln_k) if custom else None,
        ),
        ln2=LayerNorm(Norm(source.ln_2)),
        mlp=MLP(
            into=Affine(source.mlp.c_fc),
            act=source.mlp.gelu,
            out=Affine(source.mlp.c_proj),
            scale=_layer_scale(source.ls_2),
            ln=None if not custom or plain(mlp.ln) else LayerNorm(Norm(mlp.ln)),
        ),
    )


def _attention_output(source: Any) -> AttentionOutput:
    """A custom block's attention may have one factor per head, and norms over the heads' outputs and over their sum."""
    attention = source.attn
    custom = type(source) is CustomResidualAttentionBlock
    return AttentionOutput(
        linear=Affine(attention.out_proj),
        n_heads=attention.num_heads,
        layer_scale=_layer_scale(source.ls_1),
        head_scale=Weight(attention, "head_scale") if custom and attention.head_scale is not None else None,
        inner=optional_norm(attention.ln_inner) if custom else None,
        outer=optional_norm(source.ln_attn) if custom else None,
    )


def _unless_plain(norm: nn.Module) -> nn.Module | None:
    return None if plain(norm) else norm


def _layer_scale(source: nn.Module) -> Scale:
    return Scale(None if isinstance(source, nn.Identity) else source)


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size that may be one number."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)
