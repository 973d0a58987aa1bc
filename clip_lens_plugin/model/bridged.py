"""A ``TransformerBridge`` where a ``HookedCLIP`` is expected: resolved once, at the functions that users call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from transformer_lens import ActivationCache

from clip_lens_plugin.model.protocol import ImageModel, TextModel, Tower
from clip_lens_plugin.model.resolvers import Resolver, resolver

F = TypeVar("F", bound=Callable[..., Any])


def resolved(model: Any) -> Any:
    """The model itself, or the one on a bridge's weights, see :func:`~clip_lens_plugin.bridge.model.as_hooked_clip`.

    Raises:
        TypeError: if it is neither.
        UnsupportedTowerError: if the bridge holds a model that is not supported, or was changed.
        ValueError: if hooks are on the bridge.
    """
    return model if isinstance(model, ImageModel) else _resolver_of(model).hooked(model)


def resolved_tower(model: Any) -> Tower:
    """The same where a text tower is taken as well. Raises as :func:`resolved`."""
    return model if isinstance(model, Tower) else resolved(model)


def resolved_with(model: Any, cache: ActivationCache) -> tuple[Tower, ActivationCache]:
    """The model as by :func:`resolved`, where hooks may be on a bridge, and its cache under the model's own names."""
    return (model, cache) if isinstance(model, Tower) else _resolver_of(model).with_cache(model, cache)


def refuse_texts(model: Any) -> None:
    """Raises TypeError if it is a text tower."""
    if isinstance(model, TextModel):
        raise TypeError(
            f"This needs a model of images, got the text tower of {model.cfg.model_name}. Give the HookedCLIP that it "
            f"is the text tower of; decompose_text and model.text take texts."
        )


def _resolver_of(model: Any) -> Resolver:
    refuse_texts(model)
    from transformer_lens.model_bridge import TransformerBridge

    if not isinstance(model, TransformerBridge):
        raise TypeError(
            f"The model must be a HookedCLIP or a TransformerBridge, got {type(model).__name__}. Load one, "
            f"HookedCLIP.from_pretrained(name, tag), or wrap your own: HookedCLIP.from_open_clip(model) or "
            f"HookedCLIP.from_transformers(model)."
        )
    return resolver()


def takes_bridges(function: F) -> F:
    """The function with its argument ``model`` resolved: it may be given a ``TransformerBridge`` as well."""
    names = list(inspect.signature(function).parameters)
    position = names.index("model")

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if "model" in kwargs:
            kwargs["model"] = resolved(kwargs["model"])
        elif len(args) > position:
            args = (*args[:position], resolved(args[position]), *args[position + 1 :])
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]
