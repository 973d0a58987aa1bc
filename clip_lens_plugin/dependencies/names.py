"""What is said where another library lacks a name that is reached into."""

from __future__ import annotations

from types import ModuleType
from typing import Any


def attribute(holder: Any, name: str, library: str, place: str) -> Any:
    """``holder.name``, which this version of the library should have.

    Raises:
        AttributeError: see :func:`renamed`, if it has not.
    """
    try:
        return getattr(holder, name)
    except AttributeError:
        owner = holder if isinstance(holder, ModuleType | type) else type(holder)
        raise renamed(library, f"{owner.__name__}.{name}", place) from None


def renamed(library: str, name: str, place: str) -> AttributeError:
    """The error that a library lacks a name that this version of it should have."""
    from importlib.metadata import version  # Half of the time that importing the package takes.

    return AttributeError(
        f"{library} {version(library)} has no {name}, which {place} needs: this release has renamed or removed it. "
        f"Install a release of {library} within the bounds that clip_lens_plugin names (pip install --upgrade "
        f"clip_lens_plugin)."
    )
