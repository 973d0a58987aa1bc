"""A small tower of every family of image encoders: random weights, real architecture, in open_clip's shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from open_clip.model import CustomTextCLIP
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from tests.conftest import EXTENDED, TEXT_CFG, TOWERS, random_clip

SIZE, PATCH, WIDTH, DEPTH, HEADS, EMBED = 32, 8, 48, 3, 4, 24
PLAIN_NORM = partial(nn.LayerNorm, eps=1e-5)
EVA02: dict[str, Any] = {
    "qkv_fused": False,
    "mlp_ratio": 4 * 2 / 3,
    "swiglu_mlp": True,
    "scale_mlp": True,
    "scale_attn_inner": True,
    "use_rot_pos_emb": True,
    "ref_feat_shape": (16, 16),
    "global_pool": "token",
}
PE: dict[str, Any] = {
    "global_pool": "map",
    "attn_type": "rope",
    "use_pre_transformer_norm": True,
    "use_rot_pos_emb": True,
    "rope_grid_indexing": "xy",
    "attn_pool_num_heads": 8,
    "attn_pool_mlp_ratio": 4.0,
    "norm_layer": PLAIN_NORM,
}
SIGLIP: dict[str, Any] = {
    "class_token": False,
    "global_pool": "map",
    "act_layer": "gelu_tanh",
    "norm_layer": PLAIN_NORM,
}


def with_trunk(trunk: nn.Module, projected: bool = True, seed: int = 0) -> CustomTextCLIP:
    """An open_clip model around a trunk of timm; weights large enough that attention differs from a mean."""
    vision = {"timm_model_name": "test_vit", "timm_model_pretrained": False, "image_size": 160, "timm_pool": "token"}
    clip: Any = CustomTextCLIP(EMBED if projected else WIDTH, {**vision, "timm_proj": None}, dict(TEXT_CFG))
    clip.visual.trunk, clip.visual.image_size = trunk, (SIZE, SIZE)
    clip.visual.head = nn.Sequential(nn.Linear(WIDTH, EMBED, bias=False)) if projected else nn.Sequential()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in clip.visual.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
            else:
                parameter.copy_(
                    torch.randn_like(parameter) * (parameter[0].numel() ** -0.5 if len(parameter) > 1 else 0.5)
                )
    return clip.eval()


def vit(**changes: Any) -> CustomTextCLIP:
    """Around a plain timm vision transformer."""
    shape = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return with_trunk(VisionTransformer(**shape, num_classes=0, **changes), changes.get("global_pool") != "map")


def eva(**changes: Any) -> CustomTextCLIP:
    """Around timm's Eva."""
    shape = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return with_trunk(Eva(**shape, num_classes=0, **changes))


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    **{name: partial(random_clip, TOWERS[name]) for name in ("plain", "norm_then_mean", "clipa")},
    **{name: partial(random_clip, changes) for name, changes in EXTENDED.items()},
    "SigLIP": partial(vit, **SIGLIP),
    "SigLIP with registers": partial(vit, **SIGLIP, pool_include_prefix=True, reg_tokens=2),
    "registers": partial(vit, reg_tokens=3, global_pool="token"),
    "registers, mean": partial(vit, reg_tokens=3, global_pool="avg", qk_norm=True),
    "no class token": partial(vit, class_token=False, global_pool="avg", fc_norm=False),
    "EVA-01": partial(eva, global_pool="token"),
    "EVA-02": partial(eva, **EVA02),
    "EVA-02, packed": partial(eva, **{**EVA02, "qkv_fused": True, "scale_mlp": False}),
    "EVA-02, post-norm": partial(eva, use_post_norm=True, global_pool="token"),
    "EVA, mean": partial(eva, **{**EVA02, "global_pool": "avg"}),
    "PE": partial(eva, **PE, rope_grid_offset=1.0, ref_feat_shape=(24, 24)),
    "PE, no class token": partial(eva, **PE, class_token=False, init_values=0.3),
    "halves turned": partial(
        eva, use_rot_pos_emb=True, rope_rotate_half=True, qk_norm=True, num_reg_tokens=2, global_pool="token"
    ),
}
"""Name to a maker of a model with ``visual`` and ``encode_image``."""
