"""Reads the parts of a timm vision transformer inside open_clip, or says which feature is not supported."""

from __future__ import annotations

from typing import Any

from timm.layers.attention_pool import AttentionPoolLatent
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from clip_lens_plugin.adapters.checks.structure import refuse_other_structure
from clip_lens_plugin.adapters.open_clip_tower import pair
from clip_lens_plugin.adapters.timm_block import check_block, timm_block
from clip_lens_plugin.adapters.tower import ImageParts, activation_name, refusal
from clip_lens_plugin.layers.attention.output_projection import plain
from clip_lens_plugin.layers.config import HookedCLIPConfig
from clip_lens_plugin.layers.embedding.patch_embed import EvaEmbed, TimmEmbed
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.mlp import MLP
from clip_lens_plugin.layers.pooling.attention_pool import AttentionPool
from clip_lens_plugin.layers.pooling.pooling import ClassTokenPooling, MeanThenNorm, NormThenMean, Pooling
from clip_lens_plugin.layers.weight_refs import Affine, Norm, Scale, Weight


def timm_parts(tower: Any, model_name: str) -> ImageParts:
    """The parts of open_clip's ``TimmModel``: a vision transformer with any patch embedding, or an Eva.

    Raises:
        UnsupportedTowerError: for any other trunk or feature; the message names it.
    """
    trunk = tower.trunk
    _refuse_unsupported(trunk, model_name)
    refuse_other_structure(tower, model_name)
    first, embed = trunk.blocks[0], EvaEmbed(trunk) if type(trunk) is Eva else TimmEmbed(trunk)
    rows, columns = trunk.patch_embed.grid_size
    height, width = pair(tower.image_size)
    pooling, norm = _pooling(trunk, model_name)
    project = _projection(tower, trunk, model_name)
    blocks = [timm_block(trunk, block) for block in trunk.blocks]
    cfg = HookedCLIPConfig(
        model_name=model_name,
        n_layers=len(trunk.blocks),
        n_heads=first.attn.num_heads,
        d_model=trunk.embed_dim,
        d_head=first.attn.head_dim,
        d_mlp=blocks[0].mlp.W_in.shape[1],
        n_ctx=trunk.num_prefix_tokens + rows * columns,
        n_prefix_tokens=trunk.num_prefix_tokens,
        n_registers=0 if trunk.reg_token is None else trunk.reg_token.shape[1],
        d_embed=trunk.embed_dim if project is None else project.weight.shape[0],
        image_size=(height, width),
        patch_size=(height // rows, width // columns),
        act_fn=activation_name(first.mlp.act),
        pooling=pooling.name,
        device=embed.patches.weight.device,
        dtype=embed.patches.weight.dtype,
    )
    return ImageParts(
        cfg=cfg,
        embed=embed,
        blocks=blocks,
        ln_final=LayerNorm(Norm(norm)),
        pooling=pooling,
        project=project,
        source_blocks=list(trunk.blocks),
    )


def _refuse_unsupported(trunk: Any, model_name: str) -> None:
    if type(trunk) not in (VisionTransformer, Eva):
        raise refusal(model_name, f"a trunk of timm's {type(trunk).__name__}")
    # Only a hybrid's patch embedding has one; whatever it is called, it is run as it is.
    if type(getattr(trunk.patch_embed, "backbone", None)).__module__ == "timm.models.vitamin":
        raise refusal(model_name, "ViTamin's stages of convolutions and gated MLPs")
    if type(trunk) is Eva and trunk.rope_mixed:
        raise refusal(model_name, "rotary positions of its own in each layer (rope_mixed)")
    for block in trunk.blocks:
        check_block(block, model_name)


def _pooling(trunk: Any, model_name: str) -> tuple[Pooling, nn.LayerNorm]:
    """The pooling, and the LayerNorm before or after it."""
    norms = [norm for norm in (trunk.norm, trunk.fc_norm) if not plain(norm)]
    if len(norms) != 1 or not isinstance(norms[0], nn.LayerNorm) or norms[0].weight is None or norms[0].bias is None:
        kinds = " and ".join(type(norm).__name__ for norm in norms) or "nothing"
        raise refusal(model_name, f"{kinds} around its pooling instead of one LayerNorm with weight and bias")
    before, pool = norms[0] is trunk.norm, trunk.attn_pool
    # An Eva's attention pool reads every token, its mean the patches alone.
    everything = pool is not None if type(trunk) is Eva else trunk.pool_include_prefix
    first = 0 if everything else trunk.num_prefix_tokens
    if pool is not None and before:
        return _attention_pool(pool, first, model_name), norms[0]
    if trunk.global_pool == "token" and before and trunk.cls_token is not None:
        return ClassTokenPooling(), norms[0]
    if trunk.global_pool == "avg":
        return NormThenMean(first) if before else MeanThenNorm(first), norms[0]
    raise refusal(model_name, f"timm's global_pool={trunk.global_pool!r} in a way that is not known")


def _attention_pool(pool: Any, first: int, model_name: str) -> AttentionPool:
    if type(pool) is not AttentionPoolLatent:
        raise refusal(model_name, f"pooling by timm's {type(pool).__name__}")
    if pool.latent_len != 1:
        raise refusal(model_name, f"an attention pool of {pool.latent_len} queries instead of one")
    if pool.pos_embed is not None or not (plain(pool.q_norm) and plain(pool.k_norm)):
        raise refusal(model_name, "an attention pool with positions of its own or normalised queries and keys")
    if pool.mlp is None or not isinstance(pool.norm, nn.LayerNorm) or not plain(pool.mlp.norm):
        raise refusal(model_name, "an attention pool without a plain MLP after a LayerNorm")
    return AttentionPool(
        query=Weight(pool, "latent", (0, 0)),
        q=pool.q,
        key=Affine(pool.kv, weight_part=(0, 2), bias_part=(0, 2)),
        value=Affine(pool.kv, weight_part=(1, 2), bias_part=(1, 2)),
        out=Affine(pool.proj),
        n_heads=pool.num_heads,
        first=first,
        ln2=LayerNorm(Norm(pool.norm)),
        mlp=MLP(Affine(pool.mlp.fc1), pool.mlp.act, Affine(pool.mlp.fc2), Scale()),
    )


def _projection(tower: Any, trunk: Any, model_name: str) -> Affine | None:
    """The one linear layer after the pooling, None where there is none."""
    layers = [module for module in (trunk.head, *tower.head) if not isinstance(module, nn.Identity | nn.Dropout)]
    if not layers:
        return None
    if len(layers) > 1 or not isinstance(layers[0], nn.Linear):
        kinds = ", ".join(type(layer).__name__ for layer in layers)
        raise refusal(model_name, f"{kinds} after its pooling instead of one linear layer")
    return Affine(layers[0])
