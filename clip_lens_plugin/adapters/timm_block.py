"""Reads one block of a timm vision transformer or Eva."""

from __future__ import annotations

from typing import Any

from timm.layers.attention import Attention as TimmAttention
from timm.layers.attention import AttentionRope
from timm.layers.mlp import GluMlp, Mlp, SwiGLU
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from clip_lens_plugin.adapters.tower import UnsupportedTowerError, refusal
from clip_lens_plugin.layers.attention.attention import Attention
from clip_lens_plugin.layers.attention.output_projection import AttentionOutput, optional_norm, plain
from clip_lens_plugin.layers.attention.qkv import QKV, BiasInParts, PackedQKV, Prepare, Rotary, SplitQKV
from clip_lens_plugin.layers.block import Block
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.mlp import MLP
from clip_lens_plugin.layers.weight_refs import Affine, Norm, Scale


def check_block(block: Any, model_name: str) -> None:
    """Raises UnsupportedTowerError for a feature of a block that is not supported; the message names it."""

    def refuse(feature: str) -> UnsupportedTowerError:
        return refusal(model_name, feature)

    if type(block) not in (TimmBlock, EvaBlock, EvaBlockPostNorm):
        raise refuse(f"timm's {type(block).__name__}")
    if type(block.attn) not in (TimmAttention, EvaAttention, AttentionRope):
        raise refuse(f"attention of timm's {type(block.attn).__name__}")
    if type(block.mlp) not in (Mlp, GluMlp, SwiGLU):
        raise refuse(f"an MLP of timm's {type(block.mlp).__name__}")
    if type(block.mlp) is GluMlp and block.mlp.gate_last:
        raise refuse("an MLP whose gate comes last")
    norms = (block.norm1, block.norm2, block.attn.q_norm, block.attn.k_norm, block.attn.norm, block.mlp.norm)
    others = [norm for norm in norms if not (plain(norm) or isinstance(norm, nn.LayerNorm))]
    if others:
        raise refuse(f"{type(others[0]).__name__} instead of LayerNorm in its blocks")
    if block.attn.gate is not None:
        raise refuse("gated attention")
    # timm's two other classes give each head of queries keys and values of its own, and have no such number.
    if type(block.attn) is AttentionRope and block.attn.num_kv_groups != 1:
        raise refuse("fewer heads of keys and values than of queries (num_kv_heads)")


def timm_block(trunk: Any, source: Any) -> Block:
    """One block. Its norms stand before attention and MLP, or after them (EVA-02's largest)."""
    after = type(source) is EvaBlockPostNorm
    norms = [LayerNorm(Norm(norm)) for norm in (source.norm1, source.norm2)]
    attention = source.attn
    return Block(
        ln1=None if after else norms[0],
        attn=Attention(
            qkv=_qkv(attention),
            out=AttentionOutput(
                linear=Affine(attention.proj),
                n_heads=attention.num_heads,
                layer_scale=_layer_scale(source, 1),
                inner=optional_norm(attention.norm),
                outer=Norm(source.norm1) if after else None,
            ),
            n_heads=attention.num_heads,
            prepare_q=_prepare(trunk, attention, attention.q_norm),
            prepare_k=_prepare(trunk, attention, attention.k_norm),
        ),
        ln2=None if after else norms[1],
        mlp=_mlp(source.mlp, _layer_scale(source, 2), norms[1] if after else None),
    )


def _qkv(attention: Any) -> QKV:
    if attention.qkv is None:
        return SplitQKV(Affine(attention.q_proj), Affine(attention.k_proj), Affine(attention.v_proj))
    if type(attention) is EvaAttention:
        return PackedQKV(_EvaProjection(attention))
    return PackedQKV(Affine(attention.qkv))


class _EvaProjection(BiasInParts):
    """EVA keeps the weight in a layer of its own, and the parts of the bias beside it."""

    @property
    def weight(self) -> Tensor:
        module: Any = self.module
        return module.qkv.weight


def _prepare(trunk: Any, attention: Any, norm: nn.Module) -> Prepare | None:
    rope: Any = trunk.rope if type(trunk) is Eva else None
    first = None if plain(norm) else norm
    if rope is None:
        return first
    return Rotary(
        angles=rope.get_embed,
        n_prefix_tokens=attention.num_prefix_tokens,
        halves=attention.rotate_half,
        first=first,
    )


def _mlp(source: Any, scale: Scale, after: LayerNorm | None) -> MLP:
    ln = None if plain(source.norm) else LayerNorm(Norm(source.norm))
    if type(source) is SwiGLU:
        into, gate = Affine(source.fc1_x), Affine(source.fc1_g)
    elif type(source) is GluMlp:
        gate, into = (Affine(source.fc1, weight_part=(i, 2), bias_part=(i, 2)) for i in range(2))
    else:
        into, gate = Affine(source.fc1), None
    return MLP(into, source.act, Affine(source.fc2), scale, gate, ln, after)


def _layer_scale(source: Any, number: int) -> Scale:
    """A module of its own in a vision transformer, a parameter of the block in an Eva."""
    if type(source) is EvaBlockPostNorm:
        return Scale()
    if type(source) is EvaBlock:
        name = f"gamma_{number}"
        return Scale() if getattr(source, name) is None else Scale(source, name)
    module = getattr(source, f"ls{number}")
    return Scale() if plain(module) else Scale(module)
