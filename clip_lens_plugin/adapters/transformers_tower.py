"""Reads the parts of Hugging Face's CLIP and SigLIP vision models, or says which feature is not supported."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor, nn

from clip_lens_plugin.adapters.checks.structure import refuse_other_structure, title, way_out
from clip_lens_plugin.adapters.open_clip_tower import multi_head_parts
from clip_lens_plugin.adapters.tower import ImageParts, UnsupportedTowerError, activation_name, refusal
from clip_lens_plugin.dependencies.names import attribute
from clip_lens_plugin.dependencies.of_transformers import attention_kernel
from clip_lens_plugin.layers.attention.attention import Attention
from clip_lens_plugin.layers.attention.output_projection import AttentionOutput
from clip_lens_plugin.layers.attention.qkv import SplitQKV
from clip_lens_plugin.layers.block import Block
from clip_lens_plugin.layers.config import HookedCLIPConfig
from clip_lens_plugin.layers.embedding.patch_embed import Embed, HuggingFaceEmbed, NaflexEmbed, flat_patches
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.mlp import MLP
from clip_lens_plugin.layers.pooling.attention_pool import AttentionPool
from clip_lens_plugin.layers.pooling.pooling import ClassTokenPooling, Pooling
from clip_lens_plugin.layers.weight_refs import Affine, Norm, Scale, Weight

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SUPPORTED = ("CLIPModel", "CLIPVisionModelWithProjection", "SiglipModel", "Siglip2Model")
"""Names of Hugging Face's classes."""


@cache
def supported_classes() -> tuple[type, ...]:
    """The classes that :data:`SUPPORTED` names; the first call loads them."""
    return tuple(_of(transformers, name) for name in SUPPORTED)


def _of(holder: Any, name: str) -> Any:
    return attribute(holder, name, "transformers", __name__)


# What a class has is known from the class, not looked for: an attribute that a release renames is then missed.


def projects(model: Any) -> bool:
    """Whether it is OpenAI's CLIP, which projects what it pools; a SigLIP pools by attention instead."""
    return isinstance(model, transformers.CLIPModel | transformers.CLIPVisionModelWithProjection)


def is_clips(vision: Any) -> bool:
    """Whether it is the vision model of a CLIP, with class token and a norm before block 0; else it is a SigLIP's."""
    return vision.config.model_type == "clip_vision_model"


def image_side(config: Any) -> int:
    """Height and width, in pixels, of the images that a vision model's positions were trained for."""
    if config.model_type == "siglip2_vision_model":
        return config.patch_size * math.isqrt(config.num_patches)
    return config.image_size


class HuggingFaceVision(nn.Module):
    """The image tower: the vision model, and the projection where there is one."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.vision_model = _of(model, "vision_model")
        self.visual_projection: Any = _of(model, "visual_projection") if projects(model) else None
        if projects(model) and self.visual_projection is None:
            raise UnsupportedTowerError(
                f"The visual_projection of this {type(model).__name__} is None, expected the linear layer that its own "
                f"get_image_features ends with. Load the model again, or put its projection back."
            )


class HuggingFaceText(nn.Module):
    """The text tower: the text model, and the projection where there is one."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.text_model: Any = _of(model, "text_model")
        self.text_projection: Any = _of(model, "text_projection") if projects(model) else None

    def forward(self, tokens: Int[Tensor, "t n"]) -> Float[Tensor, "t e"]:
        pooled = self.text_model(input_ids=tokens).pooler_output
        return pooled if self.text_projection is None else self.text_projection(pooled)


class HuggingFaceCLIP(nn.Module):
    """A Hugging Face model in open_clip's shape: ``visual``, ``encode_text``, ``logit_scale``, ``logit_bias``.

    Nothing is copied.

    Args:
        model: one of :data:`SUPPORTED`.

    Raises:
        UnsupportedTowerError: for another model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        if not isinstance(model, supported_classes()):
            raise UnsupportedTowerError(
                f"Of Hugging Face's models {', '.join(SUPPORTED)} are supported, got "
                f"{title(type(model))}. {way_out(type(model))}".rstrip()
            )
        self._original = (model,)  # In a tuple it is no child, whose weights would count twice.
        self.visual = HuggingFaceVision(model)
        if not isinstance(model, transformers.CLIPVisionModelWithProjection):
            self.text = HuggingFaceText(model)
            self.logit_scale = _of(model, "logit_scale")
            self.logit_bias: Any = None if projects(model) else _of(model, "logit_bias")

    def encode_image(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b e"]:
        """Image embeddings as the Hugging Face model itself gives them, not normalised."""
        return image_features(self._original[0], images)

    def rounds_in(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype whose rounding a model with weights of ``dtype`` has: some of its own code is float32 at most.

        That is the softmax of every attention but "sdpa", and SigLIP 2's positions.
        """
        model = self._original[0]
        narrow = isinstance(model, transformers.Siglip2Model) or attention_kernel(model.config) != "sdpa"
        return torch.float32 if narrow and dtype is torch.float64 else dtype

    def encode_text(self, tokens: Int[Tensor, "t n"], normalize: bool = False) -> Float[Tensor, "t e"]:
        """Text embeddings."""
        embeddings = self.text(tokens)
        return nn.functional.normalize(embeddings, dim=-1) if normalize else embeddings


def image_features(model: Any, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b e"]:
    """What a model of :data:`SUPPORTED` gives by its own public methods."""
    if isinstance(model, transformers.CLIPVisionModelWithProjection):
        return model(pixel_values=images).image_embeds
    given: dict[str, Any] = {"pixel_values": images}
    if isinstance(model, transformers.Siglip2Model):
        vision: Any = model.config.vision_config
        given = patched_inputs(images, vision.patch_size)
    found: Any = model.get_image_features(**given)
    return found if isinstance(found, Tensor) else found.pooler_output


def patched_inputs(images: Float[Tensor, "b 3 height width"], size: int) -> dict[str, Tensor]:
    """What SigLIP 2's any-shape vision model is given for images of which every patch counts."""
    patches = flat_patches(images, size)
    grid = [[side // size for side in images.shape[2:]]] * len(images)
    return {
        "pixel_values": patches,
        "pixel_attention_mask": torch.ones(patches.shape[:2], dtype=torch.long, device=images.device),
        "spatial_shapes": torch.tensor(grid, device=images.device),
    }


def transformers_parts(tower: HuggingFaceVision, model_name: str) -> ImageParts:
    """The parts of a vision model.

    Raises:
        UnsupportedTowerError: for a feature that is not supported; the message names it.
    """
    vision: Any = tower.vision_model
    if not (is_clips(vision) or vision.use_head):
        raise refusal(model_name, "no pooling head (vision_use_head=False)")
    config, layers = vision.config, vision.encoder.layers
    refuse_other_structure(tower, model_name)
    embed, image_size = _embed(vision)
    has_class_token = is_clips(vision)
    pooling = _pooling(vision)
    rows, columns = (size // config.patch_size for size in image_size)
    weight = layers[0].mlp.fc1.weight
    cfg = HookedCLIPConfig(
        model_name=model_name,
        n_layers=len(layers),
        n_heads=config.num_attention_heads,
        d_model=config.hidden_size,
        d_head=config.hidden_size // config.num_attention_heads,
        d_mlp=weight.shape[0],
        n_ctx=rows * columns + has_class_token,
        n_prefix_tokens=int(has_class_token),
        d_embed=config.hidden_size if tower.visual_projection is None else tower.visual_projection.out_features,
        image_size=image_size,
        patch_size=(config.patch_size, config.patch_size),
        act_fn=activation_name(layers[0].mlp.activation_fn),
        pooling=pooling.name,
        device=weight.device,
        dtype=weight.dtype,
    )
    return ImageParts(
        cfg=cfg,
        embed=embed,
        blocks=[transformers_block(layer, config.num_attention_heads) for layer in layers],
        ln_final=LayerNorm(Norm(vision.post_layernorm)),
        pooling=pooling,
        project=None if tower.visual_projection is None else Affine(tower.visual_projection),
        source_blocks=list(layers),
    )


def _embed(vision: Any) -> tuple[Embed, tuple[int, int]]:
    """The embedding and the (height, width) that it takes: for SigLIP 2's any-shape model, that of its positions."""
    size = image_side(vision.config)
    if isinstance(vision.embeddings.patch_embedding, nn.Linear):
        return NaflexEmbed(vision.embeddings), (size, size)
    # The misspelt name is that of the published weights.
    norm = vision.pre_layrnorm if is_clips(vision) else nn.Identity()
    return HuggingFaceEmbed(vision.embeddings, norm), (size, size)


def _pooling(vision: Any) -> Pooling:
    return ClassTokenPooling() if is_clips(vision) else pooling_head(vision.head)


def pooling_head(head: Any) -> AttentionPool:
    """SigLIP's pooling head as an attention pool, on the head's own weights."""
    q, key, value, out = multi_head_parts(head.attention)
    return AttentionPool(
        query=Weight(head, "probe", (0, 0)),
        q=q,
        key=key,
        value=value,
        out=out,
        n_heads=head.attention.num_heads,
        ln2=LayerNorm(Norm(head.layernorm)),
        mlp=_mlp(head.mlp),
    )


def transformers_block(source: Any, n_heads: int) -> Block:
    """A block on the weights of one of a Hugging Face encoder's layers."""
    attention = source.self_attn
    return Block(
        ln1=LayerNorm(Norm(source.layer_norm1)),
        attn=Attention(
            qkv=SplitQKV(Affine(attention.q_proj), Affine(attention.k_proj), Affine(attention.v_proj)),
            out=AttentionOutput(Affine(attention.out_proj), n_heads),
            n_heads=n_heads,
        ),
        ln2=LayerNorm(Norm(source.layer_norm2)),
        mlp=_mlp(source.mlp),
    )


def _mlp(source: Any) -> MLP:
    return MLP(Affine(source.fc1), source.activation_fn, Affine(source.fc2), Scale())
