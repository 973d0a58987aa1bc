"""Properties that a model has at some times only: ``hasattr`` says so, and the error says why."""

from __future__ import annotations

from typing import Any


class NotAvailableError(ValueError, AttributeError):
    """The model does not have what was asked for: not yet, or not at all. ``hasattr`` takes it for an absent one."""


class PropertyErrors:
    """For modules of torch, whose own ``__getattr__`` would put another message in place of a property's."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(type(self), name, None)
        if isinstance(found, property) and found.fget is not None:
            return found.fget(self)  # Raises again what brought us here.
        return super().__getattr__(name)  # type: ignore[misc]
