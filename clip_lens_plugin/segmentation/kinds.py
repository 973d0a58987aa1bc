"""Kinds of maps that are compared: a method, with or without the contrast to other texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from clip_lens_plugin.arguments import checked_choice
from clip_lens_plugin.saliency.methods import METHODS, SaliencyMethod, resolved_method

Contrast = Literal["with", "without", "both"]
"""Whether maps of a text are contrasted with other texts; "both" scores each way by itself."""


@dataclass(frozen=True)
class Kind:
    """A method, and whether its text is contrasted with others.

    Attributes:
        method: takes a text or none.
        contrast: always False where it takes none.
    """

    method: SaliencyMethod
    contrast: bool

    @property
    def label(self) -> str:
        """The method's name: "legrad", "legrad, contrast"."""
        return f"{self.method.name}, contrast" if self.contrast else self.method.name

    @property
    def title(self) -> str:
        """What it is called in tables and pictures."""
        named = self.method.title or self.method.name
        return f"{named}, contrast" if self.contrast else named


def kinds_of(methods: Any, contrast: Contrast, others: bool) -> tuple[Kind, ...]:
    """Every kind that is asked for, each once, in the order of the methods.

    Args:
        methods: names or :class:`~clip_lens_plugin.saliency.methods.SaliencyMethod`, one or several; None for all.
        contrast: see :data:`Contrast`.
        others: whether there are other texts to contrast with.

    Raises:
        ValueError: if a method is unknown or given twice, there is none, or a contrast is asked for and there are no
            other texts.
    """
    checked_choice("contrast", contrast, get_args(Contrast))
    resolved = [resolved_method(each) for each in _listed(methods)]
    names = [each.name for each in resolved]
    twice = [name for name in names if names.count(name) > 1]
    if twice or not names:
        raise ValueError(f"methods must name one or more, each once; got {twice[0]!r} twice." if twice else NO_METHOD)
    if contrast == "with" and not others and any(each.takes_text for each in resolved):
        raise ValueError(
            "contrast 'with' needs other texts, and all images of the data set have the same: give against=[...]."
        )
    both = {"with": (True,), "without": (False,), "both": (True, False)}[contrast]
    return tuple(
        Kind(each, contrasted) for each in resolved for contrasted in (both if each.takes_text and others else (False,))
    )


NO_METHOD = f"methods must name one or more of {', '.join(METHODS)}; got none."


def _listed(methods: Any) -> Sequence[Any]:
    if methods is None:
        return list(METHODS)
    if isinstance(methods, str | SaliencyMethod) or not isinstance(methods, Iterable):
        return [methods]
    return list(methods)


def reference_of(kinds: Sequence[Kind], reference: str) -> str:
    """The label of the kind that others are compared with: with the contrast where there is one.

    Args:
        kinds: that are scored.
        reference: name of a method; the first kind's where that is not among them.
    """
    own = [each for each in kinds if each.method.name == reference] or list(kinds)
    return next((each.label for each in own if each.contrast), own[0].label)
