"""What resolves bridges: said when the package is imported, loaded when the first bridge is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Resolver(Protocol):
    """What :mod:`clip_lens_plugin.bridge.model` makes of a bridge."""

    def hooked(self, bridge: Any) -> Any:
        """The model on the weights of a ``TransformerBridge``, if no hooks are on the bridge."""
        ...

    def with_cache(self, bridge: Any, cache: Any) -> tuple[Any, Any]:
        """The model on the bridge's weights, and the bridge's ``ActivationCache`` under the model's names."""
        ...


_LOADERS: list[Callable[[], Resolver]] = []


def resolve_by(load: Callable[[], Resolver]) -> None:
    """Sets what gives the resolver; called when the package is imported, before there can be a bridge."""
    _LOADERS[:] = [load]


def resolver() -> Resolver:
    """What resolves bridges."""
    return _LOADERS[0]()
