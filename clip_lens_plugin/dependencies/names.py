"""What is said where another library lacks a name that is reached into."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)


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


def overriding(library: str, *names: str) -> Callable[[Class], Class]:
    """A decorator of a class that overrides private methods of a library: it refuses one that its bases lack.

    Under another name the library would call its own, and the class's would be passed over in silence.

    Raises:
        AttributeError: see :func:`renamed`, when the class is made, if the bases have one no longer.
    """

    def checked(kind: Class) -> Class:
        for name in names:
            if not any(name in vars(base) for base in kind.__mro__[1:]):
                raise renamed(library, f"{kind.__mro__[1].__name__}.{name}", kind.__module__)
        return kind

    return checked


def renamed(library: str, name: str, place: str) -> AttributeError:
    """The error that a library lacks a name that this version of it should have."""
    from importlib.metadata import version  # Half of the time that importing the package takes.

    return AttributeError(
        f"{library} {version(library)} has no {name}, which {place} needs: this release has renamed or removed it. "
        f"Install a release of {library} within the bounds that clip_lens_plugin names (pip install --upgrade "
        f"clip_lens_plugin)."
    )
