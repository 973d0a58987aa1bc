"""Adapters that let TransformerLens boot Hugging Face's CLIP and SigLIP, found by their entry points.

``TransformerBridge.boot_transformers("openai/clip-vit-base-patch16")`` then gives the image tower: its forward takes
images [b, 3, height, width] and returns their embeddings [b, e].
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.conversion_utils.conversion_steps import RearrangeTensorConversion
from transformer_lens.conversion_utils.param_processing_conversion import ParamProcessingConversion
from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
from transformer_lens.model_bridge.generalized_components import (
    LinearBridge,
    MLPBridge,
    NormalizationBridge,
)
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent
from transformer_lens.utilities.architectures import VISION_ARCHITECTURES
from transformers.modeling_outputs import ImageClassifierOutput

from clip_lens_plugin.bridge.block import LiveAttentionBridge, VisionBlockBridge
from clip_lens_plugin.components.embed import flat_patches

ARCHITECTURES = ("CLIPModel", "CLIPVisionModelWithProjection", "SiglipModel", "Siglip2Model")


class CLIPBridgeAdapter(ArchitectureAdapter):
    """``CLIPModel``, ``CLIPVisionModelWithProjection``, ``SiglipModel`` and ``Siglip2Model``: their image towers.

    An image processor is loaded beside the model, a tokenizer is not. SigLIP's pooling head is one module: its input
    and output have hook points, what is inside has none.

    A ``CLIPVisionModelWithProjection`` has to be named: ``boot_transformers(folder, model_class=
    CLIPVisionModelWithProjection)``, since Hugging Face loads its config without the projection.
    """

    supports_generation: bool = False
    applicable_phases: ClassVar[list[int]] = [1]

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        cfg = self.cfg
        vision = getattr(cfg, "vision_config", None)
        if vision is not None:  # Without one the config is the vision model's own.
            cfg.n_layers, cfg.n_heads = vision.num_hidden_layers, vision.num_attention_heads
            cfg.d_model, cfg.d_mlp = vision.hidden_size, vision.intermediate_size
            cfg.eps, cfg.act_fn = vision.layer_norm_eps, vision.hidden_act
        cfg.d_head = cfg.d_model // cfg.n_heads
        cfg.n_key_value_heads = None
        cfg.is_visual_model = True
        cfg.normalization_type = "LN"
        cfg.positional_embedding_type = "standard"
        cfg.final_rms = cfg.gated_mlp = cfg.attn_only = False
        cfg.attention_dir = "bidirectional"
        self.supports_fold_ln = False
        split = "(h d_head) d_model -> h d_model d_head"
        patterns = {f"{part}.weight": split for part in "qkv"}
        patterns |= {f"{part}.bias": "(h d_head) -> h d_head" for part in "qkv"}
        patterns["o.weight"] = "d_model (h d_head) -> h d_head d_model"
        self.weight_processing_conversions = {
            f"blocks.{{i}}.attn.{name}": ParamProcessingConversion(
                tensor_conversion=RearrangeTensorConversion(pattern, h=cfg.n_heads)
            )
            for name, pattern in patterns.items()
        }
        self._mapping = self._components()
        self.component_mapping = self._mapping

    def _components(self) -> dict[str, Any]:
        native = partial(NormalizationBridge, config=self.cfg, use_native_layernorm_autograd=True)
        projections: dict[str, GeneralizedComponent] = {"o": LinearBridge(name="out_proj")}
        projections |= {letter: LinearBridge(name=f"{letter}_proj") for letter in "qkv"}
        return {
            "embed": GeneralizedComponent(name="vision_model.embeddings"),
            "blocks": VisionBlockBridge(
                name="vision_model.encoder.layers",
                hook_alias_overrides={"hook_mlp_out": "mlp.out.hook_out", "hook_mlp_in": "mlp.in.hook_in"},
                submodules={
                    "ln1": native(name="layer_norm1"),
                    "ln2": native(name="layer_norm2"),
                    "attn": LiveAttentionBridge(
                        name="self_attn",
                        config=self.cfg,
                        submodules=projections,
                    ),
                    "mlp": MLPBridge(
                        name="mlp",
                        config=self.cfg,
                        submodules={"in": LinearBridge(name="fc1"), "out": LinearBridge(name="fc2")},
                    ),
                },
            ),
            "ln_final": native(name="vision_model.post_layernorm"),
        }

    def prepare_model(self, hf_model: Any) -> None:
        """Makes the model's forward that of its images, and names the parts that this model has.

        Raises:
            ValueError: if the model was loaded without its projection or its pooling head.
        """
        vision = hf_model.vision_model if hasattr(hf_model, "vision_model") else hf_model
        projected = hasattr(hf_model, "visual_projection")
        if not (projected or hasattr(vision, "head")):
            raise ValueError(
                f"{self.cfg.model_name} was loaded as {type(hf_model).__name__}, without the projection into the joint "
                f"space or a pooling head. Give its class: boot_transformers(name, "
                f"model_class=transformers.CLIPVisionModelWithProjection)."
            )
        if hasattr(vision, "pre_layrnorm"):
            self._mapping["ln_pre"] = NormalizationBridge(
                name="vision_model.pre_layrnorm", config=self.cfg, use_native_layernorm_autograd=True
            )
        if hasattr(vision, "head"):
            self._mapping["pool"] = GeneralizedComponent(name="vision_model.head")
        if projected:
            self._mapping["visual_projection"] = LinearBridge(name="visual_projection")
        patches = math.isqrt(vision.config.num_patches) ** 2 if hasattr(vision.config, "num_patches") else None
        self.cfg.n_ctx = patches or vision.embeddings.num_positions
        hf_model.forward = partial(_image_features, hf_model)


def register() -> None:
    """Makes ``boot_transformers`` know the architectures; done when the package is imported.

    TransformerLens 4.3 reads the entry points only after it has looked a config's architecture up in its own table, and
    loads what its set of vision models does not name as a language model.
    """
    for name in ARCHITECTURES:
        SUPPORTED_ARCHITECTURES.setdefault(name, CLIPBridgeAdapter)
    VISION_ARCHITECTURES.update(ARCHITECTURES)


def _image_features(hf_model: Any, pixel_values: Float[Tensor, "b 3 height width"], **_: Any) -> ImageClassifierOutput:
    """The embeddings [b, e], under the name that TransformerLens returns as a visual model's output."""
    vision = hf_model.vision_model
    if hasattr(vision.config, "num_patches"):
        size = vision.config.patch_size
        patches = flat_patches(pixel_values, size)
        grid = torch.tensor([[side // size for side in pixel_values.shape[2:]]] * len(patches))
        mask = torch.ones(patches.shape[:2], dtype=torch.long, device=patches.device)
        pooled = vision(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=grid).pooler_output
    else:
        pooled = vision(pixel_values=pixel_values).pooler_output
    projection: nn.Module | None = getattr(hf_model, "visual_projection", None)
    return ImageClassifierOutput(logits=pooled if projection is None else projection(pooled))
