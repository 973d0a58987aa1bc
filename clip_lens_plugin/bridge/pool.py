"""SigLIP's pooling head in a bridge, with the hook points that it has in a ``HookedCLIP``."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

from clip_lens_plugin.adapters.transformers_tower import pooling_head
from clip_lens_plugin.layers.hook_point import HookPoint
from clip_lens_plugin.layers.layer_norm import LayerNorm


class LivePoolBridge(GeneralizedComponent):
    """The head, computed step by step by a ``HookedCLIP``'s attention pool on the same weights.

    ``hook_in`` is the normalised stream [b, n, d] that it reads, and ``hook_out`` [b, 1, d] what its one query found.
    """

    def set_original_component(self, original_component: nn.Module) -> None:
        super().set_original_component(original_component)
        pool = pooling_head(original_component)
        for name, child in pool.named_children():
            if isinstance(child, HookPoint):
                setattr(self, name, child)
            else:
                self._modules[name] = child  # add_module finds the head's own of that name, and refuses.
        object.__setattr__(self, "_pool", pool)  # Not as a child: its hook points have one owner.

    def forward(self, hidden_states: Float[Tensor, "b n d"], *_: Any, **__: Any) -> Float[Tensor, "b d"]:
        return self._pool(self.hook_in(hidden_states), AlreadyNormalised())


class AlreadyNormalised(LayerNorm):
    """Stands for the LayerNorm that Hugging Face has run before the head."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return x
