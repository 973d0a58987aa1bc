"""A module as it was at some time, and whether it still is; quick enough to ask at every run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import isfunction, unwrap
from types import CodeType
from typing import Any

from torch import nn

from clip_lens_plugin.adapters.checks import structure
from clip_lens_plugin.adapters.checks.structure import (
    ADVICE,
    SourceMismatchError,
    alteration,
    children_of,
    plain_class,
    title,
)

AGAIN = "Wrap the model again."
HARMLESS = frozenset({"training", "gradient_checkpointing", "grad_checkpointing", "fused_attn", "output_tokens"})
"""Attributes that may change after wrapping: they change no embedding at evaluation."""

SIMPLE = (int, float, bool, str, type(None), tuple)


@cache
def _read_by(cls: type) -> frozenset[str]:
    """Names that the functions of a class use: an attribute that is not among them changes nothing it computes."""
    functions = [value for base in cls.__mro__ if base is not nn.Module for value in vars(base).values()]
    codes = [unwrap(each).__code__ for each in functions if isfunction(each) and isfunction(unwrap(each))]
    for code in codes:  # Comprehensions and functions within functions are codes of their own.
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
    return frozenset(name for code in codes for name in (*code.co_names, *code.co_freevars))


def settings_of(module: nn.Module, harmless: frozenset[str] = HARMLESS) -> dict[str, Any]:
    """Its simple attributes that its class reads, by name."""
    read = _read_by(type(module)) - harmless
    return {name: value for name, value in vars(module).items() if isinstance(value, SIMPLE) and name in read}


def functions_of(classes: Iterable[type]) -> dict[type, dict[str, Any]]:
    """The functions that each class has of its own."""
    return {each: {name: value for name, value in vars(each).items() if isfunction(value)} for each in classes}


def refuse_other_functions(functions: Mapping[type, Mapping[str, Any]], model_name: str) -> None:
    """Raises SourceMismatchError if a class has another function than when :func:`functions_of` looked."""
    for known, own in functions.items():
        now = vars(known)
        for name, function in own.items():
            if now.get(name) is not function:
                raise SourceMismatchError(
                    f"{model_name}: the {name} of {known.__name__} was replaced for all its instances by "
                    f"{now.get(name)!r}, which the wrapper would not run. Put the class's own back."
                )


@dataclass(frozen=True)
class Seen:
    """A module as it was.

    Attributes:
        path: its name in the model.
        module: itself.
        kind: its class.
        parts: its children.
        size: how many attributes it had.
        names, values: of its settings, see :func:`settings_of`.
        compiled: what ``module.compile()`` made of it, or None.
        absent: names of parameters and buffers that it did not have.
        weights: how many of its parameters were there.
        harmless: names of attributes that may change.
    """

    path: str
    module: nn.Module
    kind: type
    parts: tuple[nn.Module | None, ...]
    size: int
    names: tuple[str, ...]
    values: tuple[Any, ...]
    compiled: Any
    absent: tuple[str, ...]
    weights: int
    harmless: frozenset[str]

    @classmethod
    def of(cls, path: str, module: nn.Module, harmless: frozenset[str] = HARMLESS) -> Seen:
        state, settings = module.__dict__, settings_of(module, harmless)
        held = {**module._parameters, **module._buffers}
        return cls(
            path=path,
            module=module,
            kind=type(module),
            parts=tuple(module._modules.values()),
            size=len(state),
            names=tuple(settings),
            values=tuple(settings.values()),
            compiled=state.get("_compiled_call_impl"),
            absent=tuple(name for name, value in held.items() if value is None),
            weights=sum(value is not None for value in module._parameters.values()),
            harmless=harmless,
        )

    def is_unchanged(self) -> bool:
        """Whether nothing has changed that counts: a comparison, without looking for reasons."""
        # Written out without generators, which would take most of the time.
        state = self.module.__dict__
        if type(self.module) is not self.kind or len(state) != self.size:
            return False
        if state["_forward_hooks"] or state["_forward_pre_hooks"]:
            return False
        if state.get("_compiled_call_impl") is not self.compiled:
            return False
        parts, parameters = state["_modules"], state["_parameters"]
        if (parts or self.parts) and tuple(parts.values()) != self.parts:
            return False
        if self.names and tuple([state.get(name) for name in self.names]) != self.values:
            return False
        weights = 0
        for each in parameters.values():
            if each is not None:
                weights += 1
                if type(each) not in structure.TENSORS:
                    return False
        if weights != self.weights:
            return False
        return not (self.absent and any(self._found(name) is not None for name in self.absent))

    def _found(self, name: str) -> Any:
        """A parameter, buffer or attribute, whichever has the name."""
        return getattr(self.module, name, None)

    def change(self) -> str | None:
        """What is different, as the end of a sentence; None where it makes no difference."""
        altered = alteration(self.module)
        if altered:
            return altered
        before, now = [part for part in self.parts if part is not None], children_of(self.module)
        added = [name for name, part in now.items() if not any(part is each for each in before)]
        if added:
            found = plain_class(type(now[added[0]]))
            return f"holds another {added[0]!r} than when it was wrapped, a {title(found)}. {AGAIN}"
        if len(before) != len(now) or any(a is not b for a, b in zip(before, now.values(), strict=True)):
            return f"has lost or moved some of its parts since it was wrapped. {AGAIN}"
        if plain_class(type(self.module)) is not plain_class(self.kind):
            return f"was a {self.kind.__name__} when it was wrapped, now it is a {title(type(self.module))}. {AGAIN}"
        for name, each in self.module._parameters.items():
            if each is not None and type(each) not in structure.TENSORS:
                return f"holds {name!r} as a {title(type(each))}, no plain tensor. {ADVICE['quantised']}"
        lost = [name for name, each in self.module._parameters.items() if each is None and name not in self.absent]
        if lost and not lost[0].endswith("bias"):  # The wrapper, like the source, goes on without a bias.
            return f"had a {lost[0]!r} when it was wrapped, now it is None. Put it back, or wrap the model again."
        given = [name for name in self.absent if self._found(name) is not None]
        if given:
            return f"had no {given[0]!r} when it was wrapped, now it has one. {AGAIN}"
        moved = [name for name in self.names if name not in self.module.__dict__]
        if moved:
            return f"had a plain {moved[0]!r} when it was wrapped, and has none now. {AGAIN}"
        for name, value in settings_of(self.module, self.harmless).items():
            if value is not None and name not in self.names:
                return f"had no {name!r} of its own when it was wrapped, now it has {value!r}. {AGAIN}"
        for name, value in zip(self.names, self.values, strict=True):
            if (other := self.module.__dict__.get(name)) != value:
                return f"had {name}={value!r} when it was wrapped, now {other!r}. {AGAIN}"
        return None


@dataclass(frozen=True)
class Held:
    """An entry of a table of its owner's, for example a child in ``_modules``; all of the table where ``name`` is "".

    Attributes:
        value: as it was.
    """

    owner: Any
    table: str
    name: str
    value: Any

    @classmethod
    def of(cls, owner: Any, table: str, name: str = "") -> Held:
        """The entry as it is now."""
        return cls(owner, table, name, _entry(owner, table, name))

    def is_unchanged(self) -> bool:
        """Whether it is the same object, or an equal text or row of objects."""
        now = _entry(self.owner, self.table, self.name)
        return now is self.value or (isinstance(now, str | tuple) and now == self.value)


def _entry(owner: Any, table: str, name: str) -> Any:
    state = vars(owner) if table == "__dict__" else vars(owner)[table]
    return state.get(name) if name else tuple(state.values())
