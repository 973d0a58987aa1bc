"""Reads the parts of a timm vision transformer inside open_clip, or says which feature is not supported."""

from __future__ import annotations

from typing import Any

from open_clip.transformer import QuickGELU
from timm.layers.attention import Attention as TimmAttention
from timm.layers.mlp import Mlp as TimmMlp
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from clip_lens_plugin.adapters.open_clip import pair
from clip_lens_plugin.adapters.tower import TowerParts, UnsupportedTowerError, refusal
from clip_lens_plugin.components.attention import Attention
from clip_lens_plugin.components.block import Block
from clip_lens_plugin.components.embed import TimmEmbed
from clip_lens_plugin.components.layer_norm import LayerNorm
from clip_lens_plugin.components.mlp import MLP
from clip_lens_plugin.components.pooling import ClassTokenPooling, MeanThenNorm, NormThenMean, Pooling
from clip_lens_plugin.components.source import Affine, Norm, Scale
from clip_lens_plugin.config import HookedCLIPConfig


def timm_parts(tower: Any, model_name: str) -> TowerParts:
    """The parts of open_clip's ``TimmModel``: a plain vision transformer with any patch embedding.

    Raises:
        UnsupportedTowerError: for any other trunk or feature; the message names it.
    """
    trunk = tower.trunk
    _refuse_unsupported(tower, trunk, model_name)
    first, embed = trunk.blocks[0], TimmEmbed(trunk)
    rows, columns = trunk.patch_embed.grid_size
    height, width = pair(tower.image_size)
    pooling, norm = _pooling(trunk, model_name)
    project = _projection(tower, trunk, model_name)
    cfg = HookedCLIPConfig(
        model_name=model_name,
        n_layers=len(trunk.blocks),
        n_heads=first.attn.num_heads,
        d_model=trunk.embed_dim,
        d_head=first.attn.head_dim,
        d_mlp=first.mlp.fc1.out_features,
        n_ctx=1 + rows * columns,
        d_embed=trunk.embed_dim if project is None else project.weight.shape[0],
        image_size=(height, width),
        patch_size=(height // rows, width // columns),
        act_fn="quick_gelu" if isinstance(first.mlp.act, QuickGELU) else "gelu",
        pooling=pooling.name,
        device=embed.patches.weight.device,
        dtype=embed.patches.weight.dtype,
    )
    return TowerParts(
        cfg=cfg,
        embed=embed,
        blocks=[_block(block) for block in trunk.blocks],
        ln_final=LayerNorm(Norm(norm)),
        pooling=pooling,
        project=project,
    )


def _refuse_unsupported(tower: Any, trunk: Any, model_name: str) -> None:
    def refuse(feature: str) -> UnsupportedTowerError:
        return refusal(model_name, feature)

    if type(trunk) is not VisionTransformer:
        raise refuse(f"a trunk of timm's {type(trunk).__name__}")
    if trunk.attn_pool is not None:
        raise refuse("attention pooling (timm's attn_pool, as in SigLIP)")
    if not trunk.has_class_token or trunk.num_prefix_tokens != 1:
        raise refuse(f"{trunk.num_prefix_tokens} tokens before the patches instead of one class token")
    for block in trunk.blocks:
        if type(block) is not TimmBlock:
            raise refuse(f"timm's {type(block).__name__}")
        norms = [norm for norm in (block.norm1, block.norm2) if not isinstance(norm, nn.LayerNorm)]
        if norms:
            raise refuse(f"{type(norms[0]).__name__} instead of LayerNorm in its blocks")
        if type(block.attn) is not TimmAttention:
            raise refuse(f"attention of timm's {type(block.attn).__name__}")
        if type(block.mlp) is not TimmMlp:
            raise refuse(f"an MLP of timm's {type(block.mlp).__name__}")
        if not _plain(block.attn.q_norm, block.attn.k_norm):
            raise refuse("normalised queries and keys (qk_norm)")
        if not _plain(block.attn.norm, block.mlp.norm):
            raise refuse("a norm inside attention or MLP (scale_attn_norm, scale_mlp_norm)")
        if getattr(block.attn, "gate", None) is not None:
            raise refuse("gated attention")


def _plain(*modules: nn.Module) -> bool:
    return all(isinstance(module, nn.Identity) for module in modules)


def _pooling(trunk: Any, model_name: str) -> tuple[Pooling, nn.LayerNorm]:
    """The pooling, and the LayerNorm before or after it."""
    norms = [norm for norm in (trunk.norm, trunk.fc_norm) if not isinstance(norm, nn.Identity)]
    if len(norms) != 1 or not isinstance(norms[0], nn.LayerNorm) or norms[0].weight is None or norms[0].bias is None:
        kinds = " and ".join(type(norm).__name__ for norm in norms) or "nothing"
        raise refusal(model_name, f"{kinds} around its pooling instead of one LayerNorm with weight and bias")
    before = norms[0] is trunk.norm
    if trunk.global_pool == "token" and before:
        return ClassTokenPooling(), norms[0]
    if trunk.global_pool == "avg" and not trunk.pool_include_prefix:
        return NormThenMean() if before else MeanThenNorm(), norms[0]
    raise refusal(model_name, f"timm's global_pool={trunk.global_pool!r} in a way that is not known")


def _projection(tower: Any, trunk: Any, model_name: str) -> Affine | None:
    """The one linear layer after the pooling, None where there is none."""
    layers = [module for module in (trunk.head, *tower.head) if not isinstance(module, nn.Identity | nn.Dropout)]
    if not layers:
        return None
    if len(layers) > 1 or not isinstance(layers[0], nn.Linear):
        kinds = ", ".join(type(layer).__name__ for layer in layers)
        raise refusal(model_name, f"{kinds} after its pooling instead of one linear layer")
    return Affine(layers[0])


def _block(source: Any) -> Block:
    return Block(
        ln1=LayerNorm(Norm(source.norm1)),
        attn=Attention(
            qkv=Affine(source.attn.qkv),
            out=Affine(source.attn.proj),
            scale=_layer_scale(source.ls1),
            n_heads=source.attn.num_heads,
        ),
        ln2=LayerNorm(Norm(source.norm2)),
        mlp=MLP(
            into=Affine(source.mlp.fc1),
            act=source.mlp.act,
            out=Affine(source.mlp.fc2),
            scale=_layer_scale(source.ls2),
        ),
    )


def _layer_scale(source: nn.Module) -> Scale:
    return Scale(None if isinstance(source, nn.Identity) else source)
