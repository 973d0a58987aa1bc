"""Whether another library still has the names that are reached into."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version


def missing(names: Iterable[str]) -> list[str]:
    """Those of the dotted names, as "module:attribute.attribute", that the installed library does not have."""
    return [name for name in names if not _is_there(name)]


def renamed(library: str, name: str, place: str) -> AttributeError:
    """The error that a library lacks a private name that this version of it should have."""
    return AttributeError(
        f"{library} {version(library)} has no {name}, which {place} needs: this release has renamed or removed it. "
        f"Install a release of {library} within the bounds that clip_lens_plugin names (pip install --upgrade "
        f"clip_lens_plugin)."
    )


def _is_there(name: str) -> bool:
    module, _, path = name.partition(":")
    try:
        found = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True
