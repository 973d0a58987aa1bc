"""What image and text towers share as TransformerLens models: layers, hooks, weights and the projection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.utilities.typed_module_list import TypedModuleList

from clip_lens_plugin.adapters.tower import TowerParts
from clip_lens_plugin.layers.hook_point import HookPoint
from clip_lens_plugin.layers.pooling.attention_pool import AttentionPool
from clip_lens_plugin.model.copies import Copies
from clip_lens_plugin.model.described import describe
from clip_lens_plugin.model.hooks.hooking import Hooking
from clip_lens_plugin.model.hooks.run_lock import RunLock
from clip_lens_plugin.model.property_errors import PropertyErrors
from clip_lens_plugin.model.weights.stacked_weights import StackedWeights


class HookedTower(PropertyErrors, StackedWeights, Copies, Hooking):
    """A tower's layers with their hooks, weights and projection, on the source's parameters.

    Args:
        clip: the source's modules.
        parts: what an adapter made of them.
    """

    def __init__(self, clip: nn.Module, parts: TowerParts) -> None:
        super().__init__()
        _refuse_broken_weights(clip, parts.cfg.model_name)
        self.clip: Any = clip
        self.cfg = parts.cfg
        self._parts: Any = parts
        self.hook_embed = HookPoint()
        self.blocks = TypedModuleList(parts.blocks)
        self.ln_final = parts.ln_final
        describe(parts, clip)
        if isinstance(parts.pooling, AttentionPool):
            self.pool = parts.pooling
        self._run_lock = RunLock()

    # ------------------------------------------------------------------ weights

    @property
    def source_blocks(self) -> list[nn.Module]:
        """The source's own blocks."""
        return self._parts.source_blocks

    @property
    def pooling(self):
        """How the last stream is pooled, see :mod:`clip_lens_plugin.layers.pooling.pooling`."""
        return self._parts.pooling

    @property
    def W_P(self) -> Float[Tensor, "d e"]:
        """The projection P from the pooled stream into the joint space."""
        return self._parts.W_P()

    @property
    def b_P(self) -> Float[Tensor, " e"] | None:
        """The projection's bias, None where the source has none."""
        return self._parts.b_P()

    def finish(self, stream: Float[Tensor, "b n d"], read: Mapping[str, Tensor]) -> Float[Tensor, "b e"]:
        """The embedding, from the last stream of a run and what ``begin`` read of its input."""
        return self.project(self.pooling.bound(read)(stream, self.ln_final))

    def project(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
        """The pooled, normalised stream in the joint space."""
        projected = pooled @ self.W_P.to(pooled.dtype)
        return projected if self.b_P is None else projected + self.b_P.to(pooled.dtype)


def _refuse_broken_weights(clip: nn.Module, model_name: str) -> None:
    for name, weight in clip.named_parameters():
        if weight.is_meta or weight.numel() == 0:
            continue
        # Least and greatest carry a NaN, and unlike isfinite need no memory.
        if not all(math.isfinite(extreme) for extreme in weight.detach().aminmax()):
            raise ValueError(
                f"{model_name}: the weight {name!r} holds NaN or infinite values, so no output of this model "
                f"would mean anything. Download or save the checkpoint again."
            )
