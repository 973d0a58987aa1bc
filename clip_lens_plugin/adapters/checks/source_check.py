"""A source tower as it was when it was wrapped, and whether it still is; quick enough to ask at every run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CustomTextCLIP
from torch import nn

from clip_lens_plugin.adapters.checks.expected import CHILDREN, DROP, FAMILIES, LINEAR, NORM, SCALE, family_classes
from clip_lens_plugin.adapters.checks.seen import AGAIN, Held, Seen, functions_of, refuse_other_functions
from clip_lens_plugin.adapters.checks.structure import SourceMismatchError, refuse_global_hooks
from clip_lens_plugin.after_import import after_import
from clip_lens_plugin.dependencies.of_transformers import KERNEL_SETTING

KNOWN = {*CHILDREN, *LINEAR.classes, *NORM.classes, *SCALE.classes, *DROP.classes, CLIP, CustomTextCLIP, CoCa}
FUNCTIONS = functions_of(KNOWN)
"""What the known classes computed when this module was imported; Hugging Face's, when they were themselves."""

after_import(dict.fromkeys(FAMILIES, lambda family: FUNCTIONS.update(functions_of(family_classes(family)))))

RANDOM = ("p", "drop_prob", "prob", "dropout")
"""Attributes that say how much a module drops while it is in training mode."""

METHODS = ("encode_image", "get_image_features", "forward")
TEXT_METHODS = ("encode_text", "get_text_features", "text_pool_type", "text_eos_id")


def _held_by(clip: Any) -> tuple[Held, ...]:
    """What a model's embeddings go through beside its tower: its parts, and methods of its own."""
    original = getattr(clip, "_original", (clip,))[0]
    found = [(clip, "_modules", "visual")]
    if original is not clip:
        found += [(original, "_modules", name) for name in original._modules]
        found += [(original, "_parameters", name) for name in original._parameters]
        found += [(original.vision_model.config, "__dict__", KERNEL_SETTING)]
    if type(original).__name__ == "CLIPVisionModelWithProjection":  # Whose embedding is its forward's.
        found += [(original, table, "") for table in ("_forward_hooks", "_forward_pre_hooks")]
    owners = (clip,) if original is clip else (clip, original)
    found += [(owner, "__dict__", name) for owner in owners for name in METHODS]
    return tuple(Held.of(*each) for each in found)


def _held_by_text(clip: Any) -> tuple[Held, ...]:
    """What a model's text embeddings go through beside the modules of its text tower."""
    original = getattr(clip, "_original", (clip,))[0]
    found = [(clip, "_modules", "text")]
    if original is not clip:
        found += [(original, "_modules", name) for name in ("text_model", "text_projection")]
    owners = (clip,) if original is clip else (clip, original)
    found += [(owner, "__dict__", name) for owner in owners for name in TEXT_METHODS]
    return tuple(Held.of(*each) for each in found)


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
    held: tuple[Held, ...]
    seen: tuple[Seen, ...]
    random: tuple[tuple[str, nn.Module], ...]

    @classmethod
    def of(cls, clip: Any, model_name: str) -> SourceCheck:
        """Takes the model and its image tower as they are now."""
        return cls._of(clip, clip.visual, "visual", _held_by(clip), model_name)

    @classmethod
    def of_text(cls, clip: Any, tower: nn.Module, model_name: str) -> SourceCheck:
        """Takes the model and its text tower as they are now."""
        return cls._of(clip, tower, "text", _held_by_text(clip), model_name)

    @classmethod
    def _of(cls, clip: Any, tower: nn.Module, root: str, held: tuple[Held, ...], model_name: str) -> SourceCheck:
        named = [(f"{root}.{path}" if path else root, module) for path, module in tower.named_modules()]
        random = tuple((path, module) for path, module in named if drops(module))
        return cls(model_name, clip, held, tuple(Seen.of(path, module) for path, module in named), random)

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
        refuse_other_functions(FUNCTIONS, self.model_name)
        for path, module in self.random:
            if module.training:
                raise SourceMismatchError(
                    f"{self.model_name}: {path} drops values at random, since it is in training mode, and the wrapper "
                    f"does not. Call model.eval() first."
                )

    def check_held(self) -> None:
        """Does nothing if the towers, methods and logit scale beside the tower are the same as when it was wrapped.

        Raises:
            SourceMismatchError: if one was replaced.
        """
        for held in self.held:
            if not held.is_unchanged():
                raise SourceMismatchError(
                    f"{self.model_name}: {held.name or held.table.strip('_')} of its {type(held.owner).__name__} was "
                    f"replaced after it was wrapped. {AGAIN}"
                )


def drops(module: nn.Module) -> bool:
    """Whether it drops something at random in training mode."""
    rates = [getattr(module, name, None) for name in RANDOM]
    return any(isinstance(rate, float | int) and rate > 0 for rate in rates)
