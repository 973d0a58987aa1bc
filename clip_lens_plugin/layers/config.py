"""What a wrapped tower knows of its own shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from clip_lens_plugin.arguments import checked_head, checked_heads, checked_index


@dataclass(kw_only=True)
class TowerConfig:
    """Shape of a wrapped tower, under the names that TransformerLens uses.

    Attributes:
        model_name: what the model was loaded as.
        n_layers, n_heads, d_model, d_head, d_mlp: as in TransformerLens.
        n_ctx: tokens of an image or a text.
        d_embed: width of the joint embedding space.
        act_fn: "gelu", "gelu_tanh" (its approximation), "quick_gelu" or "silu" (of a gate).
        pooling: how the tokens become one embedding.
        d_vocab: how many text labels are set, kept up to date by ``HookedCLIP.set_labels``; of a text tower, how many
            token ids there are.
        device, dtype: where the weights lie; kept up to date by ``HookedCLIP.to``.
        use_attn_result: whether a full cache holds ``hook_result``; see ``HookedCLIP.set_use_attn_result``.
        use_attn_in, use_split_qkv_input, use_hook_mlp_in: whether blocks have hook points of their inputs; see
            ``HookedCLIP.set_use_split_qkv_input``.
        eps: what the last LayerNorm adds to the variance.
        original_architecture: the source model's class.
        gated_mlp: whether MLPs have a gate.
        positional_embedding_type: "rotary" where queries and keys are turned, else "standard".
        attention_dir: "causal" where a token does not see those after it, else "bidirectional".
        normalization_type, attn_only, final_rms, n_key_value_heads, parallel_attn_mlp, use_attn_scale,
            default_prepend_bos: read by TransformerLens; the same for every tower.
    """

    model_name: str
    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    n_ctx: int
    d_embed: int
    act_fn: str
    pooling: str
    device: torch.device
    dtype: torch.dtype
    use_attn_result: bool = False
    d_vocab: int = 0
    normalization_type: str = "LN"
    attn_only: bool = False
    final_rms: bool = False
    n_key_value_heads: int | None = None
    use_attn_in: bool = False
    use_split_qkv_input: bool = False
    use_hook_mlp_in: bool = False
    eps: float = 1e-5
    original_architecture: str = ""
    gated_mlp: bool = False
    positional_embedding_type: str = "standard"
    attention_dir: str = "bidirectional"
    parallel_attn_mlp: bool = False
    use_attn_scale: bool = True
    default_prepend_bos: bool = False

    @property
    def attn_scale(self) -> float:
        """What the products of queries and keys are divided by."""
        return math.sqrt(self.d_head)

    @property
    def d_vocab_out(self) -> int:
        """The same as ``d_vocab``."""
        return self.d_vocab

    @property
    def n_params(self) -> int:
        """Weights of the blocks as TransformerLens counts them: no biases, norms or embeddings."""
        attention = 4 * self.d_model * self.d_head * self.n_heads
        return self.n_layers * (attention + (3 if self.gated_mlp else 2) * self.d_model * self.d_mlp)

    def to_dict(self) -> dict[str, Any]:
        """Every entry by its name, those that follow from others too."""
        return {**vars(self), **{name: getattr(self, name) for name in ("attn_scale", "d_vocab_out", "n_params")}}

    def checked_head(self, layer: Any, head: Any) -> tuple[int, int]:
        """The same (layer, head), counted from the start where a number is negative.

        Raises:
            ValueError: if one is no whole number.
            IndexError: if there is no such head.
        """
        return checked_head(layer, head, self.n_layers, self.n_heads)

    def checked_heads(self, heads: Any) -> list[tuple[int, int]]:
        """(layer, head) pairs counted from the start, each once; the number of a layer stands for all of its heads.

        Raises:
            ValueError: if ``heads`` is neither, or holds no pair.
            IndexError: if there is no such head.
        """
        return checked_heads(heads, self.n_layers, self.n_heads)

    def checked_layer(self, layer: Any) -> int:
        """The same layer, counted from the start where it is negative.

        Raises:
            ValueError: if it is no whole number.
            IndexError: if there is no such layer.
        """
        return checked_index("layer", layer, self.n_layers)


@dataclass(kw_only=True)
class HookedCLIPConfig(TowerConfig):
    """Shape of a wrapped image tower. Its tokens are those before the patches, and one per patch.

    Attributes:
        image_size: (height, width) of the input in pixels.
        patch_size: (height, width) of a patch in pixels.
        n_prefix_tokens: tokens before the patches: the class token, where there is one, and registers.
        n_registers: how many of them are registers, the last ones.
        is_visual_model: read by TransformerLens.
    """

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    n_prefix_tokens: int = 1
    n_registers: int = 0
    is_visual_model: bool = True

    @property
    def prefix_names(self) -> tuple[str, ...]:
        """Short names of the tokens before the patches: "CLS", then "REG0" and so on."""
        class_token = ("CLS",) if self.n_prefix_tokens > self.n_registers else ()
        return class_token + tuple(f"REG{i}" for i in range(self.n_registers))

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        (height, width), (patch_height, patch_width) = self.image_size, self.patch_size
        return height // patch_height, width // patch_width


@dataclass(kw_only=True)
class HookedTextConfig(TowerConfig):
    """Shape of a wrapped text tower. Its tokens are those of the tokenizer, and a class token where there is one.

    Attributes:
        context_length: token ids of a text, with padding.
        has_class_token: whether a class token of its own follows them, which is what is pooled: CoCa's.
    """

    context_length: int
    has_class_token: bool = False
