"""TransformerLens's private names: of its bridge and of the bridge's components."""

from __future__ import annotations

import sys
from inspect import unwrap
from typing import Any

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.dependencies.names import attribute

NAMES = (
    "transformer_lens.model_bridge:TransformerBridge._pos_slice_dim",
    "transformer_lens.model_bridge:TransformerBridge._gated_hook_reason",
    "transformer_lens.model_bridge:TransformerBridge._register_aliases",
    "transformer_lens.model_bridge:TransformerBridge._validate_attention_fork_supported",
    "transformer_lens.patching:generic_activation_patch",
    "transformer_lens.model_bridge.generalized_components:AttentionBridge._setup_qkv_hook_reshaping",
    "transformer_lens.model_bridge.generalized_components:BlockBridge._check_stop_at_layer",
    "transformer_lens.model_bridge.generalized_components:BlockBridge._read_use_hook_mlp_in",
    "transformer_lens.model_bridge.generalized_components.base:GeneralizedComponent._fired_hook_out",
    "transformer_lens.model_bridge.generalized_components.base:GeneralizedComponent._suppress_next_hook_in",
)

PATCHING = "transformer_lens.patching", "generic_activation_patch"
"""Module and name of what runs a model for all of TransformerLens's patching functions over indices."""

POSITIONS = frozenset({"pos", "src_pos", "dest_pos"})
"""What such a function calls its axes over positions."""

OF_A_BRIDGE = ("_driver", "_hook_registry", "_hook_alias_registry")
"""Attributes that a bridge gets when it is made."""

ORIGINAL = "_original_component"
"""The part of a component that is the wrapped module."""

STATE_ALONE = "_container_state_owners"
"""The part of a bridge that names weights and runs nothing."""

OF_A_RUN = frozenset({"_fired_hook_out", "_suppress_next_hook_in"})
"""Attributes in which components keep how far a run is."""


def adopt_hooks(bridge: Any, aliases: dict[str, Any]) -> None:
    """Gives a bridge hook points under further names."""
    registry, _ = _of(bridge, "_hook_registry"), _of(bridge, "_hook_alias_registry")
    bridge._hook_alias_registry = dict(aliases)
    _of(bridge, "_register_aliases")()
    for name in aliases:
        registry[name] = getattr(bridge, name)


def gate(bridge: Any, name: str) -> str | None:
    """The switch that keeps a hook point from being run with the bridge's settings; None where none does."""
    return _of(bridge, "_gated_hook_reason")(name)


def sliced_dimension(name: str, point: HookPoint | None) -> int | None:
    """The dimension of positions, as TransformerLens takes it from a hook point's name."""
    from transformer_lens.model_bridge import TransformerBridge  # Takes long, and a model without a bridge needs none.

    return _of(TransformerBridge, "_pos_slice_dim")(name, point)


def stop_before(block: Any, stream: Tensor) -> None:
    """Raises StopAtLayerException if a run is to stop before the block."""
    _of(block, "_check_stop_at_layer")(stream)


def reads_mlp_in(block: Any) -> bool:
    """Whether the MLP's input has a hook point of its own."""
    return _of(block, "_read_use_hook_mlp_in")()


def driver_of(bridge: Any) -> Any:
    """What runs the bridge's model."""
    return _of(bridge, "_driver")


def wrapped_by(component: nn.Module) -> nn.Module | None:
    """The module that a component is wrapped around, None for a module that is no component."""
    from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent  # See above.

    return _of(component, "original_component") if isinstance(component, GeneralizedComponent) else None


def plain_name(name: str) -> str:
    """The name that a weight or module has without the bridge."""
    return name.replace(f".{ORIGINAL}", "")


def counts_positions() -> bool:
    """Whether the call comes from a patching function over positions that was given no indices, and so counts them."""
    patching = sys.modules.get(PATCHING[0])
    if patching is None:
        return False
    code = unwrap(_of(patching, PATCHING[1])).__code__
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is code:
            return not POSITIONS.isdisjoint(frame.f_locals.get("index_axis_names") or ())
        frame = frame.f_back
    return False


def _of(holder: Any, name: str) -> Any:
    return attribute(holder, name, "transformer_lens", __name__)
