"""Adapters that let TransformerLens boot Hugging Face's CLIP and SigLIP, found by their entry points.

``TransformerBridge.boot_transformers("openai/clip-vit-base-patch16")`` then gives the image tower: its forward takes
images [b, 3, height, width] and returns their embeddings [b, e].
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

from transformer_lens.conversion_utils.conversion_steps import RearrangeTensorConversion
from transformer_lens.conversion_utils.param_processing_conversion import ParamProcessingConversion
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
from transformer_lens.model_bridge.generalized_components import LinearBridge
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

from clip_lens_plugin.adapters.transformers_tower import image_side, is_clips, projects
from clip_lens_plugin.bridge.block import (
    LiveAttentionBridge,
    LiveMLPBridge,
    LiveNormBridge,
    VisionBlockBridge,
)
from clip_lens_plugin.bridge.clip_bridge import CLIPBridge
from clip_lens_plugin.bridge.forward import image_features
from clip_lens_plugin.bridge.original import blank, refuse_changes, refuse_held, structure_of
from clip_lens_plugin.bridge.pool import LivePoolBridge


class CLIPBridgeAdapter(ArchitectureAdapter):
    """``CLIPModel``, ``CLIPVisionModelWithProjection``, ``SiglipModel`` and ``Siglip2Model``: their image towers.

    An image processor is loaded beside the model, a tokenizer is not.

    A ``CLIPVisionModelWithProjection`` has to be named: ``boot_transformers(folder, model_class=
    CLIPVisionModelWithProjection)``, since Hugging Face loads its config without the projection.
    """

    supports_generation: bool = False
    supports_compatibility_mode: bool = False
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
        cfg.attn_scale = math.sqrt(cfg.d_head)
        cfg.n_params = cfg.n_layers * (4 * cfg.d_model * cfg.d_head * cfg.n_heads + 2 * cfg.d_model * cfg.d_mlp)
        cfg.original_architecture = cfg.architecture
        cfg.d_vocab = cfg.d_vocab_out = 0  # Labels, of which none are set.
        cfg.default_prepend_bos = False
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
        norm = partial(LiveNormBridge, config=self.cfg)
        projections: dict[str, GeneralizedComponent] = {"o": LinearBridge(name="out_proj")}
        projections |= {letter: LinearBridge(name=f"{letter}_proj") for letter in "qkv"}
        return {
            "embed": GeneralizedComponent(name="vision_model.embeddings"),
            "blocks": VisionBlockBridge(
                name="vision_model.encoder.layers",
                submodules={
                    "ln1": norm(name="layer_norm1"),
                    "ln2": norm(name="layer_norm2"),
                    "attn": LiveAttentionBridge(
                        name="self_attn",
                        config=self.cfg,
                        submodules=projections,
                    ),
                    "mlp": LiveMLPBridge(
                        name="mlp",
                        config=self.cfg,
                        submodules={"in": LinearBridge(name="fc1"), "out": LinearBridge(name="fc2")},
                    ),
                },
            ),
            "ln_final": norm(name="vision_model.post_layernorm"),
        }

    def prepare_model(self, hf_model: Any) -> None:
        """Makes the model's forward that of its images, and names the parts that this model has.

        Raises:
            ValueError: if the model was loaded without its projection or its pooling head.
            UnsupportedTowerError: if some of it is not Hugging Face's own, or another bridge holds it.
        """
        vision = getattr(hf_model, "vision_model", hf_model)  # A vision model by itself has none inside.
        projected, pooled = projects(hf_model), not is_clips(vision) and vision.use_head
        if not (projected or pooled):
            raise ValueError(
                f"{self.cfg.model_name} was loaded as {type(hf_model).__name__}, without the projection into the joint "
                f"space or a pooling head. Give its class: boot_transformers(name, "
                f"model_class=transformers.CLIPVisionModelWithProjection)."
            )
        refuse_held(hf_model)
        refuse_changes(hf_model, structure_of(blank(hf_model)), image_features)
        if is_clips(vision):
            self._mapping["ln_pre"] = LiveNormBridge(name="vision_model.pre_layrnorm", config=self.cfg)
        if pooled:
            self._mapping["pool"] = LivePoolBridge(name="vision_model.head")
        if projected:
            self._mapping["visual_projection"] = LinearBridge(name="visual_projection")
        self.cfg.n_ctx = (image_side(vision.config) // vision.config.patch_size) ** 2 + is_clips(vision)
        hf_model.forward = partial(image_features, hf_model)

    def setup_hook_compatibility(self, bridge: TransformerBridge) -> None:
        """Called by TransformerLens when a bridge is complete."""
        CLIPBridge.adopt(bridge)
