"""Hooks may edit an activation in place, even one that autograd keeps for the backward pass."""

from __future__ import annotations

from torch import Tensor

from clip_lens_plugin.layers.hook_point import HookPoint


def editable(x: Tensor, hook: HookPoint) -> Tensor:
    """A copy of ``x`` where ``hook`` has listeners and gradients flow, else ``x`` itself.

    For outputs that their own backward pass reads (square root, softmax, fused attention): torch refuses a
    backward pass through one that was edited in place.
    """
    return x.clone() if x.requires_grad and hook.has_hooks() else x
