"""Hugging Face models with the weights of an open_clip model: the same checkpoint in the other format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)

Weights = dict[str, Tensor]


def _layer(packed: Weights, at: str, names: dict[str, str], to: str) -> Weights:
    """One block; ``names`` gives the source's name of each part."""
    found = {}
    for kind in ("weight", "bias"):
        separator = "_" if names["qkv"].endswith("in_proj") else "."
        thirds = packed[f"{at}{names['qkv']}{separator}{kind}"].chunk(3)
        for letter, third in zip("qkv", thirds, strict=True):
            found[f"{to}self_attn.{letter}_proj.{kind}"] = third
        for theirs, ours in names.items():
            if theirs != "qkv":
                found[f"{to}{theirs}.{kind}"] = packed[f"{at}{ours}.{kind}"]
    return found


OPEN_CLIP = {
    "qkv": "attn.in_proj",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
TIMM = {
    "qkv": "attn.qkv",
    "self_attn.out_proj": "attn.proj",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def _fill(model: nn.Module, weights: Weights) -> None:
    lacking, unknown = model.load_state_dict(weights, strict=False)
    assert not unknown, unknown
    assert not [name for name in lacking if "position_ids" not in name and "logit_bias" not in name], lacking


def _vision_weights(clip: Any) -> Weights:
    state = clip.visual.state_dict()
    weights = {
        "vision_model.embeddings.class_embedding": state["class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "visual_projection.weight": state["proj"].T.contiguous(),
    }
    for kind in ("weight", "bias"):
        weights[f"vision_model.pre_layrnorm.{kind}"] = state[f"ln_pre.{kind}"]
        weights[f"vision_model.post_layernorm.{kind}"] = state[f"ln_post.{kind}"]
    for l in range(clip.visual.transformer.layers):
        weights |= _layer(state, f"transformer.resblocks.{l}.", OPEN_CLIP, f"vision_model.encoder.layers.{l}.")
    return weights


def _vision_shape(clip: Any) -> dict[str, Any]:
    visual = clip.visual
    block = visual.transformer.resblocks[0]
    return {
        "hidden_size": visual.conv1.out_channels,
        "intermediate_size": block.mlp.c_fc.out_features,
        "num_hidden_layers": visual.transformer.layers,
        "num_attention_heads": block.attn.num_heads,
        "image_size": visual.image_size[0],
        "patch_size": visual.patch_size[0],
        "hidden_act": "quick_gelu" if "Quick" in type(block.mlp.gelu).__name__ else "gelu",
        "projection_dim": visual.proj.shape[1],
    }


def clip_model(clip: Any) -> CLIPModel:
    """A ``CLIPModel`` with both towers of open_clip's own ``CLIP``."""
    width, layers = clip.token_embedding.weight.shape[1], len(clip.transformer.resblocks)
    text = {
        "hidden_size": width,
        "intermediate_size": clip.transformer.resblocks[0].mlp.c_fc.out_features,
        "num_hidden_layers": layers,
        "num_attention_heads": clip.transformer.resblocks[0].attn.num_heads,
        "max_position_embeddings": clip.positional_embedding.shape[0],
        "vocab_size": clip.token_embedding.num_embeddings,
        "eos_token_id": 49407,
        "bos_token_id": 49406,
        "pad_token_id": 49407,
    }
    shape = _vision_shape(clip)
    text["hidden_act"] = shape["hidden_act"]
    config = CLIPConfig(text_config=text, vision_config=shape, projection_dim=shape["projection_dim"])
    model, state = CLIPModel(config), clip.state_dict()
    weights = _vision_weights(clip) | {
        "logit_scale": state["logit_scale"],
        "text_projection.weight": state["text_projection"].T.contiguous(),
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
    }
    for kind in ("weight", "bias"):
        weights[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
    for l in range(layers):
        weights |= _layer(state, f"transformer.resblocks.{l}.", OPEN_CLIP, f"text_model.encoder.layers.{l}.")
    _fill(model, weights)
    return model.to(clip.logit_scale.dtype).eval()


def vision_model(clip: Any) -> CLIPVisionModelWithProjection:
    """A ``CLIPVisionModelWithProjection`` with the image tower of open_clip's own ``CLIP``."""
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**_vision_shape(clip)))
    _fill(model, _vision_weights(clip))
    return model.to(clip.logit_scale.dtype).eval()


def siglip_model(clip: Any, second: bool = False) -> SiglipModel | Siglip2Model:
    """A ``SiglipModel`` or ``Siglip2Model`` with the image tower of a timm SigLIP; its text tower is random."""
    trunk = clip.visual.trunk
    state, size = trunk.state_dict(), trunk.patch_embed.patch_size[0]
    vision = {
        "hidden_size": trunk.embed_dim,
        "intermediate_size": trunk.blocks[0].mlp.fc1.out_features,
        "num_hidden_layers": len(trunk.blocks),
        "num_attention_heads": trunk.blocks[0].attn.num_heads,
        "patch_size": size,
        "layer_norm_eps": trunk.norm.eps,
        **({"num_patches": trunk.pos_embed.shape[1]} if second else {"image_size": trunk.patch_embed.img_size[0]}),
    }
    text = {
        "hidden_size": trunk.embed_dim,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 99,
        "max_position_embeddings": 16,
        "projection_size": trunk.embed_dim,
    }
    torch.manual_seed(0)
    config = (Siglip2Config if second else SiglipConfig)(text_config=text, vision_config=vision)
    model = (Siglip2Model if second else SiglipModel)(config)
    patches = state["patch_embed.proj.weight"]
    weights = {
        "embeddings.patch_embedding.weight": patches.permute(0, 2, 3, 1).flatten(1) if second else patches,
        "embeddings.patch_embedding.bias": state["patch_embed.proj.bias"],
        "embeddings.position_embedding.weight": state["pos_embed"][0],
        "head.probe": state["attn_pool.latent"],
    }
    for kind in ("weight", "bias"):
        weights[f"post_layernorm.{kind}"] = state[f"norm.{kind}"]
        both = [state[f"attn_pool.q.{kind}"], state[f"attn_pool.kv.{kind}"]]
        weights[f"head.attention.in_proj_{kind}"] = torch.cat(both)
        weights[f"head.attention.out_proj.{kind}"] = state[f"attn_pool.proj.{kind}"]
        weights[f"head.layernorm.{kind}"] = state[f"attn_pool.norm.{kind}"]
        weights[f"head.mlp.fc1.{kind}"] = state[f"attn_pool.mlp.fc1.{kind}"]
        weights[f"head.mlp.fc2.{kind}"] = state[f"attn_pool.mlp.fc2.{kind}"]
    for l in range(len(trunk.blocks)):
        weights |= _layer(state, f"blocks.{l}.", TIMM, f"encoder.layers.{l}.")
    _fill(model.vision_model, weights)
    return model.to(patches.dtype).eval()


def image_features(model: Any, images: Tensor) -> Tensor:
    """What Hugging Face itself gives for images [b, 3, height, width]."""
    if isinstance(model, CLIPVisionModelWithProjection):
        return model(pixel_values=images).image_embeds
    if isinstance(model, Siglip2Model):
        size = model.config.vision_config.patch_size
        grid = images.unfold(2, size, size).unfold(3, size, size)  # b, 3, rows, columns, size, size
        rows, columns = grid.shape[2:4]
        patches = grid.permute(0, 2, 3, 4, 5, 1).reshape(len(images), rows * columns, -1)
        shapes = torch.tensor([[rows, columns]] * len(images))
        mask = torch.ones(len(images), rows * columns, dtype=torch.long)
        found = model.get_image_features(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes)
    else:
        found = model.get_image_features(pixel_values=images)
    return getattr(found, "pooler_output", found)


def letters_tokenizer(folder: Path, start: int = 49406) -> CLIPTokenizer:
    """A tokenizer of letters, written by the test."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    known = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: i for i, token in enumerate(known)}
    vocabulary |= {"<|startoftext|>": start, "<|endoftext|>": start + 1}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
