"""A source tower as it was when it was wrapped, and whether it still is; quick enough to ask at every run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from clip_lens_plugin.adapters.expected import CHILDREN, DROP, LINEAR, NORM, SCALE
from clip_lens_plugin.adapters.structure import (
    SourceMismatchError,
    alteration,
    base_class,
    children_of,
    refuse_global_hooks,
    title,
)

HARMLESS = frozenset({"training", "gradient_checkpointing", "grad_checkpointing", "fused_attn", "output_tokens"})
"""Attributes that may change after wrapping: they change no embedding at evaluation."""

SIMPLE = (int, float, bool, str, type(None), tuple)
KNOWN = {*CHILDREN, *LINEAR.classes, *NORM.classes, *SCALE.classes, *DROP.classes}
FORWARDS = {each: each.forward for each in KNOWN}
"""What the known classes computed when this module was imported."""

RANDOM = ("p", "drop_prob", "prob", "dropout")
"""Attributes that say how much a module drops while it is in training mode."""


@dataclass(frozen=True)
class _Seen:
    """A module as it was.

    Attributes:
        path: its name in the model.
        module: itself.
        parts: its children.
        size: how many attributes it had.
        names, values: of its simple attributes.
    """

    path: str
    module: nn.Module
    parts: tuple[nn.Module | None, ...]
    size: int
    names: tuple[str, ...]
    values: tuple[Any, ...]

    @classmethod
    def of(cls, path: str, module: nn.Module) -> _Seen:
        state = module.__dict__
        names = tuple(name for name, value in state.items() if isinstance(value, SIMPLE) and name not in HARMLESS)
        values = tuple(state[name] for name in names)
        return cls(path, module, tuple(module._modules.values()), len(state), names, values)

    def is_unchanged(self) -> bool:
        """Whether hooks, children and attributes are as they were: a comparison, without looking for reasons."""
        state = self.module.__dict__
        if state["_forward_hooks"] or state["_forward_pre_hooks"] or len(state) != self.size:
            return False
        return (
            tuple(state["_modules"].values()) == self.parts
            and tuple([state.get(name) for name in self.names]) == self.values
        )

    def change(self) -> str | None:
        """What is different, as the end of a sentence; None where it makes no difference."""
        altered = alteration(self.module)
        if altered:
            return altered
        before, now = [part for part in self.parts if part is not None], children_of(self.module)
        added = [name for name, part in now.items() if not any(part is each for each in before)]
        if added:
            found = base_class(now[added[0]])
            return f"holds another {added[0]!r} than when it was wrapped, a {title(found)}. Wrap the model again."
        if len(before) != len(now) or any(a is not b for a, b in zip(before, now.values(), strict=True)):
            return "has lost or moved some of its parts since it was wrapped. Wrap the model again."
        for name, value in zip(self.names, self.values, strict=True):
            if (other := self.module.__dict__.get(name)) != value:
                return f"had {name}={value!r} when it was wrapped, now {other!r}. Wrap the model again."
        return None


@dataclass(frozen=True)
class SourceCheck:
    """What :meth:`check` compares a tower with.

    Attributes:
        model_name: as shown.
        seen: every module of the tower.
        random: those that drop something in training mode.
    """

    model_name: str
    seen: tuple[_Seen, ...]
    random: tuple[tuple[str, nn.Module], ...]

    @classmethod
    def of(cls, tower: nn.Module, model_name: str) -> SourceCheck:
        """Takes the tower as it is now; a holder whose forward the wrapper only knows by its parts counts as well."""
        named = [(f"visual.{path}" if path else "visual", module) for path, module in tower.named_modules()]
        random = tuple((path, module) for path, module in named if _drops(module))
        return cls(model_name, tuple(_Seen.of(path, module) for path, module in named), random)

    def check(self) -> None:
        """Does nothing if the tower computes what it did when it was wrapped.

        Raises:
            SourceMismatchError: if a module has a hook, a forward of its own or another part or setting, a known class
                has another forward, or something is dropped at random because the tower is in training mode.
        """
        refuse_global_hooks(self.model_name)
        for seen in self.seen:
            change = None if seen.is_unchanged() else seen.change()
            if change:
                raise SourceMismatchError(f"{self.model_name}: {seen.path} {change}")
        for known, forward in FORWARDS.items():
            if known.forward is not forward:
                raise SourceMismatchError(
                    f"{self.model_name}: the forward of {known.__name__} was replaced for all its instances by "
                    f"{known.forward!r}, which the wrapper would not run. Put the class's own back."
                )
        for path, module in self.random:
            if module.training:
                raise SourceMismatchError(
                    f"{self.model_name}: {path} drops values at random, since it is in training mode, and the wrapper "
                    f"does not. Call model.eval() first."
                )


def _drops(module: nn.Module) -> bool:
    rates = [getattr(module, name, None) for name in RANDOM]
    return any(isinstance(rate, float | int) and rate > 0 for rate in rates)
