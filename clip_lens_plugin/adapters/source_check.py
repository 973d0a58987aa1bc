"""A source tower as it was when it was wrapped, and whether it still is; quick enough to ask at every run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from inspect import isfunction
from typing import Any

from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CustomTextCLIP
from torch import nn

from clip_lens_plugin.adapters import structure
from clip_lens_plugin.adapters.expected import CHILDREN, DROP, LINEAR, NORM, SCALE
from clip_lens_plugin.adapters.structure import (
    ADVICE,
    SourceMismatchError,
    alteration,
    base_class,
    children_of,
    refuse_global_hooks,
    title,
)

AGAIN = "Wrap the model again."
HARMLESS = frozenset({"training", "gradient_checkpointing", "grad_checkpointing", "fused_attn", "output_tokens"})
"""Attributes that may change after wrapping: they change no embedding at evaluation."""

SIMPLE = (int, float, bool, str, type(None), tuple)
KNOWN = {*CHILDREN, *LINEAR.classes, *NORM.classes, *SCALE.classes, *DROP.classes, CLIP, CustomTextCLIP, CoCa}
FUNCTIONS = {each: {name: value for name, value in vars(each).items() if isfunction(value)} for each in KNOWN}
"""What the known classes computed when this module was imported."""

RANDOM = ("p", "drop_prob", "prob", "dropout")
"""Attributes that say how much a module drops while it is in training mode."""


@cache
def _read_by(cls: type) -> frozenset[str]:
    """Names that the functions of a class use: an attribute that is not among them changes nothing it computes."""
    functions = [value for base in cls.__mro__ if base is not nn.Module for value in vars(base).values()]
    codes = [each.__code__ for each in functions if isfunction(each)]
    return frozenset(name for code in codes for name in (*code.co_names, *code.co_freevars))


@dataclass(frozen=True)
class _Seen:
    """A module as it was.

    Attributes:
        path: its name in the model.
        module: itself.
        kind: its class.
        parts: its children.
        size: how many attributes it had.
        names, values: of its simple attributes that its class reads.
        absent: names of parameters and buffers that it did not have.
    """

    path: str
    module: nn.Module
    kind: type
    parts: tuple[nn.Module | None, ...]
    size: int
    names: tuple[str, ...]
    values: tuple[Any, ...]
    absent: tuple[str, ...]

    @classmethod
    def of(cls, path: str, module: nn.Module) -> _Seen:
        state, read = module.__dict__, _read_by(type(module)) - HARMLESS
        names = tuple(name for name, value in state.items() if isinstance(value, SIMPLE) and name in read)
        held = {**module._parameters, **module._buffers}
        return cls(
            path=path,
            module=module,
            kind=type(module),
            parts=tuple(module._modules.values()),
            size=len(state),
            names=names,
            values=tuple(state[name] for name in names),
            absent=tuple(name for name, value in held.items() if value is None),
        )

    def is_unchanged(self) -> bool:
        """Whether nothing has changed that counts: a comparison, without looking for reasons."""
        state = self.module.__dict__
        if state["_forward_hooks"] or state["_forward_pre_hooks"] or len(state) != self.size:
            return False
        parameters = state["_parameters"]
        return (
            type(self.module) is self.kind
            and tuple(state["_modules"].values()) == self.parts
            and tuple([state.get(name) for name in self.names]) == self.values
            and all(type(each) in structure.TENSORS or each is None for each in parameters.values())
            and not (self.absent and any(self._found(name) is not None for name in self.absent))
        )

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
            found = base_class(now[added[0]])
            return f"holds another {added[0]!r} than when it was wrapped, a {title(found)}. {AGAIN}"
        if len(before) != len(now) or any(a is not b for a, b in zip(before, now.values(), strict=True)):
            return f"has lost or moved some of its parts since it was wrapped. {AGAIN}"
        if base_class(self.module) is not (self.kind if type(self.module) is self.kind else _base(self.kind)):
            return f"was a {self.kind.__name__} when it was wrapped, now it is a {title(type(self.module))}. {AGAIN}"
        for name, each in self.module._parameters.items():
            if each is not None and type(each) not in structure.TENSORS:
                return f"holds {name!r} as a {title(type(each))}, no plain tensor. {ADVICE['quantised']}"
        given = [name for name in self.absent if self._found(name) is not None]
        if given:
            return f"had no {given[0]!r} when it was wrapped, now it has one. {AGAIN}"
        moved = [name for name in self.names if name not in self.module.__dict__]
        if moved:
            return f"had a plain {moved[0]!r} when it was wrapped, and has none now. {AGAIN}"
        for name, value in zip(self.names, self.values, strict=True):
            if (other := self.module.__dict__.get(name)) != value:
                return f"had {name}={value!r} when it was wrapped, now {other!r}. {AGAIN}"
        return None


def _base(kind: type) -> type:
    """The class that one made by ``torch.nn.utils.parametrize`` had before."""
    return kind.__mro__[1] if kind.__name__.startswith("Parametrized") else kind


@dataclass(frozen=True)
class _Held:
    """What stands above the tower: an entry of a table of its owner's."""

    owner: Any
    table: str
    name: str
    value: Any

    @classmethod
    def by(cls, clip: Any) -> tuple[_Held, ...]:
        """What a model's embeddings go through beside its tower: its parts, and methods of its own."""
        original = getattr(clip, "_original", (clip,))[0]
        found = [(clip, "_modules", "visual")]
        if original is not clip:
            found += [(original, "_modules", name) for name in original._modules]
            found += [(original, "_parameters", name) for name in original._parameters]
            found += [(original.vision_model.config, "__dict__", "_attn_implementation_internal")]
        if type(original).__name__ == "CLIPVisionModelWithProjection":  # Whose embedding is its forward's.
            found += [(original, table, "") for table in ("_forward_hooks", "_forward_pre_hooks")]
        owners = (clip,) if original is clip else (clip, original)
        found += [(owner, "__dict__", name) for owner in owners for name in METHODS]
        return tuple(cls(*each, _entry(*each)) for each in found)

    def is_unchanged(self) -> bool:
        now = _entry(self.owner, self.table, self.name)
        return now is self.value or (isinstance(now, str | tuple) and now == self.value)


METHODS = ("encode_image", "get_image_features", "forward")


def _entry(owner: Any, table: str, name: str) -> Any:
    state = vars(owner) if table == "__dict__" else vars(owner)[table]
    return state.get(name) if name else tuple(state.values())


@dataclass(frozen=True)
class SourceCheck:
    """What :meth:`check` compares a tower with.

    Attributes:
        model_name: as shown.
        clip: the model that holds the tower.
        held: what stands above the tower.
        seen: every module of the tower.
        random: those that drop something in training mode.
    """

    model_name: str
    clip: Any
    held: tuple[_Held, ...]
    seen: tuple[_Seen, ...]
    random: tuple[tuple[str, nn.Module], ...]

    @classmethod
    def of(cls, clip: Any, model_name: str) -> SourceCheck:
        """Takes the model as it is now."""
        named = [(f"visual.{path}" if path else "visual", module) for path, module in clip.visual.named_modules()]
        random = tuple((path, module) for path, module in named if _drops(module))
        return cls(model_name, clip, _Held.by(clip), tuple(_Seen.of(path, module) for path, module in named), random)

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
        self.check_held()
        for known, functions in FUNCTIONS.items():
            now = vars(known)
            for name, function in functions.items():
                if now.get(name) is not function:
                    raise SourceMismatchError(
                        f"{self.model_name}: the {name} of {known.__name__} was replaced for all its instances by "
                        f"{now.get(name)!r}, which the wrapper would not run. Put the class's own back."
                    )
        for path, module in self.random:
            if module.training:
                raise SourceMismatchError(
                    f"{self.model_name}: {path} drops values at random, since it is in training mode, and the wrapper "
                    f"does not. Call model.eval() first."
                )

    def check_held(self) -> None:
        """Does nothing if what stands beside the tower is what it was: the towers themselves, methods, logit scale.

        Raises:
            SourceMismatchError: if one was replaced.
        """
        for held in self.held:
            if not held.is_unchanged():
                raise SourceMismatchError(
                    f"{self.model_name}: {held.name or held.table.strip('_')} of its {type(held.owner).__name__} was "
                    f"replaced after it was wrapped. {AGAIN}"
                )


def _drops(module: nn.Module) -> bool:
    rates = [getattr(module, name, None) for name in RANDOM]
    return any(isinstance(rate, float | int) and rate > 0 for rate in rates)
