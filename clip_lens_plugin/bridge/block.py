"""A block of a bridge whose attention scores and pattern are live: an edit of them moves the output."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge.generalized_components import AttentionBridge, BlockBridge
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent


class VisionBlockBridge(BlockBridge):
    """A block without the inputs by head that TransformerLens's language models can have."""

    hook_aliases: ClassVar[dict[str, Any]] = {
        name: at
        for name, at in BlockBridge.hook_aliases.items()
        if name not in ("hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input")
    }


class LiveAttentionBridge(AttentionBridge):
    """The attention of CLIP's and SigLIP's image towers, computed step by step.

    TransformerLens's own runs Hugging Face's module and shows the pattern afterwards, when an edit no longer counts.
    """

    supports_split_qkv_fork: bool = False

    def __init__(self, name: str, config: Any, submodules: dict[str, GeneralizedComponent]) -> None:
        super().__init__(name, config, submodules, is_causal=False)
        self._width: int = config.d_head

    def forward(
        self, hidden_states: Float[Tensor, "b n d"], attention_mask: Tensor | None = None, **_: Any
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b h n n"]]:
        """The attention's output, and its pattern.

        Raises:
            ValueError: if some tokens are masked, which no tower of these has at its own image size.
        """
        # A boolean mask keeps what is true; one of numbers is added to the scores.
        masked = attention_mask is not None and bool((attention_mask != attention_mask.max()).any())
        if masked:
            raise ValueError(
                "An image with masked tokens is not supported in the bridge; give square images at the model's own "
                "size, of which every patch counts."
            )
        x, width = self.hook_in(hidden_states), self._width
        q, k, v = (part(x).unflatten(-1, (-1, width)).transpose(1, 2) for part in (self.q, self.k, self.v))
        pattern = self.hook_pattern(self.hook_attn_scores(q @ k.mT * width**-0.5).softmax(-1))
        return self.hook_out(self.o((pattern @ v).transpose(1, 2).flatten(2))), pattern
