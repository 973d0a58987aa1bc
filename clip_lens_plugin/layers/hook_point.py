"""A hook point that knows of every hook on it, TransformerLens's and PyTorch's own."""

from __future__ import annotations

from typing import Literal

from torch import nn
from transformer_lens.hook_points import HookPoint as TransformerLensHookPoint


class HookPoint(TransformerLensHookPoint):
    """TransformerLens's hook point; :meth:`has_hooks` counts ``register_forward_hook`` and its like as well.

    What is computed only for listeners (scores, patterns, heads' results, a LayerNorm's parts) is then computed for
    those too.
    """

    def has_hooks(
        self,
        dir: Literal["fwd", "bwd", "both"] = "both",
        including_permanent: bool = True,
        level: int | None = None,
    ) -> bool:
        """Whether hooks are on it, see TransformerLens. PyTorch's own are permanent, and of no level."""
        if super().has_hooks(dir, including_permanent, level):
            return True
        if level is not None or not including_permanent:
            return False
        forward = dir != "bwd" and has_native_hooks(self, len(self.fwd_hooks))
        backward = dir != "fwd" and bool(self._backward_pre_hooks or len(self._backward_hooks) > len(self.bwd_hooks))
        return forward or backward


def has_native_hooks(module: nn.Module, known: int = 0) -> bool:
    """Whether PyTorch's own hooks stand around a module's forward, beside so many ``known`` ones."""
    return bool(module._forward_pre_hooks) or len(module._forward_hooks) > known
