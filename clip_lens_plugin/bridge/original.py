"""What a bridge may hold: Hugging Face's own modules and nothing in them that a copy of the weights would not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from clip_lens_plugin.adapters.checks.seen import settings_of
from clip_lens_plugin.adapters.checks.structure import (
    SourceMismatchError,
    acting_hooks,
    refuse_global_hooks,
    replaced_function,
)
from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from clip_lens_plugin.adapters.transformers_tower import SUPPORTED, supported_classes
from clip_lens_plugin.dependencies.of_transformer_lens import plain_name, wrapped_by
from clip_lens_plugin.dependencies.of_transformers import HOOKED_BY_ACCELERATE, set_attention_kernel


@dataclass(frozen=True)
class Place:
    """What stands in one place of a model.

    Attributes:
        kind: the module's class.
        children: their names.
        settings: what its class reads beside weights.
    """

    kind: type
    children: frozenset[str]
    settings: dict[str, Any]


Structure = dict[str, Place]
"""The places of a model by their names."""


def blank(original: Any) -> Any:
    """A model of the same class and config on the meta device, without the bridge's modules.

    Raises:
        UnsupportedTowerError: for a class that is not supported; a subclass or a wrapper is none.
    """
    made = type(original)
    if made not in supported_classes():
        raise UnsupportedTowerError(
            f"Of Hugging Face's models {', '.join(SUPPORTED)} are supported in a bridge, got "
            f"{made.__name__}. Give the model itself: merge an adapter into its weights first "
            f"(model.merge_and_unload())."
        )
    config = deepcopy(original.config)
    # TransformerLens asks for attention weights, and "eager", whose softmax is in float32 at most. The bridge's own
    # attention has no such limit.
    set_attention_kernel(config, "sdpa")
    # A config of an image tower alone holds none inside.
    for each in (config, getattr(config, "vision_config", config), getattr(config, "text_config", config)):
        each.output_attentions = each.output_hidden_states = False
    with torch.device("meta"):
        return made(config)


def structure_of(model: nn.Module) -> Structure:
    """How the model is built."""
    return {
        name: Place(type(module), frozenset(module._modules), settings_of(module))
        for name, module in model.named_modules()
    }


def refuse_changes(original: nn.Module, structure: Structure, forward: Callable[..., Any]) -> None:
    """Refuses a model that computes something else than its weights and its class say.

    Args:
        original: the model; its modules may be wrapped in a bridge's.
        structure: of a model of its class and config.
        forward: what the model's own ``forward`` may be replaced with.

    Raises:
        SourceMismatchError: if a module is of another class, has other children or settings, torch's hooks, or a
            function of its own; the message names it and the way out.
    """
    refuse_global_hooks(type(original).__name__)
    for name, chain in modules_of(original, structure):
        where, source, place = name or type(original).__name__, chain[-1], structure[name]
        if type(source) is not place.kind:
            raise changed(where, f"is of {_full(type(source))}, not {_full(place.kind)}")
        extra = sorted(set(source._modules) ^ place.children)
        if extra:
            raise changed(where, f"has other parts than a {place.kind.__name__}: {extra[:3]}")
        if any(acting_hooks(each) for each in chain):
            raise changed(where, "has a forward hook of torch's")
        for each in chain:
            if (function := replaced_function(each)) and not _is_meant(function, each, forward):
                raise changed(where, f"has a {function} of its own")
        now = settings_of(source)
        for setting, value in place.settings.items():
            if now.get(setting) != value:
                raise changed(where, f"has {setting}={now.get(setting)!r}, where its config makes it {value!r}")


def refuse_held(original: nn.Module) -> None:
    """Refuses a model whose modules are in a bridge already.

    Raises:
        UnsupportedTowerError: if one is.
    """
    if any(wrapped_by(module) is not None for module in original.modules()):
        raise UnsupportedTowerError(
            f"This {type(original).__name__} is held by another bridge, which has put modules of its own into it. Boot "
            f"each bridge from a model of its own: load it again, or take copy.deepcopy(bridge)."
        )


def tensors_of(original: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by the names that they have without the bridge."""
    found = [
        *original.named_parameters(remove_duplicate=False),
        *original.named_buffers(remove_duplicate=False),
    ]
    return {plain_name(name): tensor for name, tensor in found}


def refuse_left_over(original: nn.Module, used: Iterable[Tensor]) -> None:
    """Refuses a model with a parameter that is not among those used.

    Raises:
        SourceMismatchError: naming the first of them.
    """
    known = {id(tensor) for tensor in used}
    left = next((name for name, parameter in original.named_parameters() if id(parameter) not in known), None)
    if left is not None:
        raise changed(plain_name(left), "is a parameter too many")


def modules_of(original: nn.Module, structure: Structure) -> Iterator[tuple[str, list[nn.Module]]]:
    """Each module of the structure, the last of its list, after the wrappers that it is in."""
    found = {"": _unwrapped(original)}
    yield "", found[""]
    for name in filter(None, structure):
        owner, _, last = name.rpartition(".")
        child = found[owner][-1]._modules.get(last)
        if child is None:  # Named by its owner's children.
            raise changed(owner, f"has lost its part {last}")
        found[name] = _unwrapped(child)
        yield name, found[name]


def _unwrapped(module: nn.Module) -> list[nn.Module]:
    chain = [module]
    while isinstance(inner := wrapped_by(chain[-1]), nn.Module):
        chain.append(inner)
    return chain


def _is_meant(function: str, module: nn.Module, forward: Callable[..., Any]) -> bool:
    """Whether it is the bridge's forward, or Accelerate's, which moves tensors only."""
    own = vars(module).get("forward")
    ours = isinstance(own, partial) and own.func is forward
    return function == "forward" and (ours or HOOKED_BY_ACCELERATE in vars(module))


def _full(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def changed(where: str, what: str) -> SourceMismatchError:
    """The error that refuses a model of a bridge for what is changed in it."""
    return SourceMismatchError(
        f"In the model of this bridge, {where} {what}. A bridge holds Hugging Face's own modules, unchanged: merge an "
        f"adapter into the weights before booting (model.merge_and_unload()), and remove torch's hooks and "
        f"replaced parts."
    )
