"""What each head, and the MLP, reads of the stream: hook points that are there while their switch is on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from clip_lens_plugin.layers.hook_point import HookPoint

SPLIT = ("hook_q_input", "hook_k_input", "hook_v_input")
SWITCHES = {"use_attn_in": ("hook_attn_in",), "use_split_qkv_input": SPLIT, "use_hook_mlp_in": ("hook_mlp_in",)}
"""A switch to the hook points of a block that it makes."""

OF_HEADS = ("hook_attn_in", *SPLIT)
"""Those that see a copy of the stream for each head [b, n, h, d]."""

Inputs = tuple[Tensor | None, Tensor | None, Tensor | None]
"""What the heads' queries, keys and values are made of [b, n, h, d], where it is not the same for all heads."""


def head_inputs(
    points: Mapping[str, nn.Module | None],
    pre: Float[Tensor, "b n d"],
    read: Float[Tensor, "b n d"],
    norm: Callable[[Tensor], Tensor] | None,
    n_heads: int,
) -> Inputs | None:
    """What is made of each head's own copy of the stream, normalised; None where nobody listens.

    Args:
        points: hook points by their names, and perhaps others.
        pre: the stream.
        read: what the block's norm and the hooks on it made of it. What they changed is changed in every copy alike.
        norm: that norm, without hooks; None for none.
    """

    def own(name: str) -> Float[Tensor, "b n h d"] | None:
        point = points.get(name)
        if not isinstance(point, HookPoint) or not point.has_hooks():
            return None
        copies = point(pre[:, :, None].repeat(1, 1, n_heads, 1))
        return copies if norm is None else norm(copies) + (read - norm(pre))[:, :, None]

    shared = own("hook_attn_in")
    if shared is not None:
        return shared, shared, shared
    q, key, v = (own(name) for name in SPLIT)
    return None if q is None and key is None and v is None else (q, key, v)


class SwitchedInputs(nn.Module):
    """The hook points of a block that :data:`SWITCHES` names, each before the block's LayerNorm.

    They are made when their switch is turned on, and nothing is copied for one that nobody listens to.
    """

    def __init__(self) -> None:
        super().__init__()
        self._switched_on = frozenset[str]()

    def switch(self, name: str, on: bool) -> None:
        """Makes the hook points of a switch, or takes them away with the hooks on them."""
        for point in SWITCHES[name]:
            if on and point not in self._modules:
                setattr(self, point, HookPoint())
            elif not on:
                self._modules.pop(point, None)
        self._switched_on = self._switched_on | {name} if on else self._switched_on - {name}

    def head_inputs(self, pre: Float[Tensor, "b n d"], read: Float[Tensor, "b n d"], n_heads: int) -> Inputs | None:
        """See :func:`head_inputs`; None where nobody listens."""
        if not self._switched_on:
            return None
        ln1: Any = self._modules.get("ln1")
        return head_inputs(self._modules, pre, read, None if ln1 is None else ln1.norm, n_heads)

    def mlp_input(self, mid: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """What the MLP's LayerNorm reads: the stream, or a copy that a hook may change for the MLP alone."""
        if not self._switched_on:
            return mid
        point: Any = self._modules.get("hook_mlp_in")
        return point(mid.clone()) if point is not None and point.has_hooks() else mid
