"""Which hooks are on a model, and that none is where the plain model is analysed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pickle import PicklingError
from typing import Any

from torch import nn

from clip_lens_plugin.layers.hook_point import HookPoint, TransformerLensHookPoint, has_native_hooks
from clip_lens_plugin.model.protocol import Tower

WRITERS = ("hook_attn_out", "hook_resid_pre", "hook_resid_mid", "hook_resid_post")
"""Hook points, by the last part of their names, at which a hook adds to the stream beside heads and MLPs."""


def active_hooks(model: Tower) -> list[str]:
    """Names of the hook points and modules with forward hooks on them, TransformerLens's or PyTorch's own."""
    points = [name for name, point in model.hook_dict.items() if point.has_hooks(dir="fwd")]
    return points + hooked_modules(model)


def hooked_modules(model: Tower) -> list[str]:
    """Names of the wrapper's own modules, without hook points, that have PyTorch's hooks around their forward."""
    own = _own_modules(model)
    return [name for name, module in own if not isinstance(module, HookPoint) and has_native_hooks(module)]


def _own_modules(model: Tower) -> Iterator[tuple[str, nn.Module]]:
    """Every module but the source's, by name."""
    yield "the model", model
    named = ((name, module) for name, module in model.named_modules() if name)
    yield from ((name, module) for name, module in named if not (name == "clip" or name.startswith("clip.")))


def stream_is_edited(model: Tower) -> bool:
    """Whether a hook may write to the stream beside what heads and MLPs write."""
    points = (point for name, point in model.hook_dict.items() if name.rpartition(".")[2] in WRITERS)
    return any(point.has_hooks(dir="fwd") for point in points) or bool(hooked_modules(model))


def hooked_heads(model: Tower) -> dict[tuple[int, str], TransformerLensHookPoint]:
    """The hook points at which a hook may change what heads put out: layer, and "hook_z" or "hook_result"."""
    points = {
        (l, name): getattr(block.attn, name)
        for l, block in enumerate(model.blocks)
        for name in ("hook_z", "hook_result")
    }
    return {key: point for key, point in points.items() if point.has_hooks(dir="fwd")}


def refuse_hooks(model: Tower, doing: str) -> None:
    """Raises ValueError if hooks are on the model; ``doing`` begins the message: "collect runs the plain model"."""
    with model.alone():  # Not while another thread's decomposition has hooks of its own on the model.
        active = active_hooks(model)
    _refuse(active, f"{doing}, but there are hooks on", "; to decompose under a hook, use model.decompose.")


def refuse_left_hooks(model: Tower, doing: str) -> None:
    """Raises ValueError if hooks were left on the model, outside of any ``with model.hooks(...)``."""
    with model.alone():
        left = [name for name, point in model.hook_dict.items() if _is_left(point)] + hooked_modules(model)
    put_on = ". To have the model under hooks, put them on around the call: `with model.hooks(fwd_hooks=[...])`."
    _refuse(left, f"{doing}, but hooks were left on", put_on)


def refuse_pickled_hooks(model: Tower) -> None:
    """Raises PicklingError if a hook on the model has no name by which another process could find it."""
    # TransformerLens puts a function of its own, made where the hook is added, around every hook.
    held = [name for name, module in _own_modules(model) if any(_is_local(hook) for hook in _hooks_around(module))]
    opening = f"{model.cfg.model_name} cannot be pickled with hooks of this process, which are on"
    _refuse(held, opening, ", or copy the model within the process: copy.deepcopy(model).", PicklingError)


def _hooks_around(module: nn.Module) -> Iterator[Any]:
    tables = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return chain.from_iterable(table.values() for table in tables)


def _is_local(hook: Any) -> bool:
    """Whether it is a lambda or a function within a function."""
    while isinstance(hook, partial):
        hook = hook.func
    return "<" in getattr(hook, "__qualname__", "")


def _refuse(hooked: list[str], opening: str, instead: str, error: type[Exception] = ValueError) -> None:
    """Raises the error if anything is hooked: what it begins with, then how to take them off, or what else to do."""
    if hooked:
        raise error(
            f"{opening} {', '.join(hooked[:3])}{' and others' if len(hooked) > 3 else ''}. Take them off first, "
            f"model.reset_hooks() (PyTorch's own with their handle.remove()){instead}"
        )


def _is_left(point: TransformerLensHookPoint) -> bool:
    outside = any(handle.context_level is None for handle in point.fwd_hooks)
    return outside or has_native_hooks(point, len(point.fwd_hooks))


def refuse_rewritten_output(model: Tower) -> None:
    """Raises ValueError if PyTorch's own hooks stand where they change the embedding past the cached activations."""
    last = ("the model", "ln_final", "pool")
    outside = [name for name in hooked_modules(model) if name.split(".")[0] in last]
    if outside:
        raise ValueError(
            f"There are PyTorch hooks on {', '.join(outside[:3])}, after what a cache holds, so the cache does not say "
            f"what the model gave. Put them on a hook point, such as ln_final.hook_normalized, or take them off: "
            f"handle.remove()."
        )
