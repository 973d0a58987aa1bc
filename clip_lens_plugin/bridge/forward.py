"""From images to their embeddings through the modules that a bridge has put into Hugging Face's model."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers.modeling_outputs import ImageClassifierOutput

from clip_lens_plugin.adapters.transformers_tower import image_side, is_clips, patched_inputs, projects


def image_features(hf_model: Any, pixel_values: Any = None, **_: Any) -> ImageClassifierOutput:
    """The embeddings [b, e], under the name that TransformerLens returns as a visual model's output.

    Raises:
        ValueError: if the images are not [b, 3, height, width] at the model's own size.
    """
    vision = hf_model.vision_model
    weight = vision.post_layernorm.weight
    images = _checked(vision, pixel_values).to(weight.device, weight.dtype)
    if vision.config.model_type == "siglip2_vision_model":
        pooled = vision(**patched_inputs(images, vision.config.patch_size)).pooler_output
    elif not is_clips(vision):
        pooled = vision(pixel_values=images).pooler_output
    else:
        # Hugging Face's CLIP normalises the class token alone. Here every token is, as in a HookedCLIP, so that the
        # hook points of the last LayerNorm have their positions.
        embedded = vision.pre_layrnorm(vision.embeddings(images))
        pooled = vision.post_layernorm(vision.encoder(inputs_embeds=embedded).last_hidden_state)[:, 0]
    return ImageClassifierOutput(logits=hf_model.visual_projection(pooled) if projects(hf_model) else pooled)


def _checked(vision: Any, images: Any) -> Float[Tensor, "b 3 height width"]:
    size = image_side(vision.config)
    if not isinstance(images, Tensor) or images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
        given = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"The bridge takes images of shape [batch, 3, {size}, {size}], got {given}.")
    return images
