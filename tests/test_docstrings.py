"""Every public function, method and property has a docstring, and it names each parameter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from typing import Any

import pytest

import clip_lens_plugin

PACKAGE = "clip_lens_plugin"


def public_names() -> dict[str, Any]:
    """What the package and its faces export, by path."""
    found = {name: getattr(clip_lens_plugin, name) for name in clip_lens_plugin.__all__ if name[0] != "_"}
    for face in clip_lens_plugin.FACES:
        module = import_module(f"{PACKAGE}.{face}")
        names = getattr(module, "__all__", None) or [name for name in vars(module) if name[0] != "_"]
        found |= {f"{face}.{name}": getattr(module, name) for name in names}
    return {path: each for path, each in found.items() if getattr(each, "__module__", "").startswith(f"{PACKAGE}.")}


def plain(member: Any) -> Any:
    """The function behind a method, a property or a decorator."""
    for kind, attribute in ((property, "fget"), (cached_property, "func"), ((classmethod, staticmethod), "__func__")):
        if isinstance(member, kind):
            member = getattr(member, attribute)
    return inspect.unwrap(member) if callable(member) else member


def ours(function: Any, public: Any) -> bool:
    """Whether the function stands in the same package; typing gives protocols an ``__init__`` of its own."""
    return function.__module__.split(".")[0] == public.__module__.split(".")[0]


def functions_of(public: Any) -> Iterator[tuple[str, Any, str]]:
    """Name and function of each public member that a class or its bases in the package define, or of a function.

    Beside each stand the docstrings of the class, whose attributes are parameters of what a dataclass generates.
    """
    if not inspect.isclass(public):
        yield "", plain(public), ""
        return
    for base in public.__mro__:
        about = f"{public.__doc__ or ''} {base.__doc__ or ''}"
        for name, member in vars(base).items():
            function = plain(member)
            if (name[0] != "_" or name == "__init__") and inspect.isfunction(function) and ours(function, public):
                yield f"{base.__name__}.{name}", function, about


def lacking(public: Any) -> list[str]:
    """What the docstrings of a public function or class do not say."""
    found = [f"{public.__name__} has no docstring"] if not public.__doc__ else []
    for name, function, about in functions_of(public):
        own = function.__doc__ or ""
        if not own and function.__name__ != "__init__":
            found.append(f"{name} has no docstring")
        parameters = [each for each in inspect.signature(function).parameters if each not in ("self", "cls")]
        # A dataclass's own private fields are nothing that a user gives.
        unnamed = [each for each in parameters if each[0] != "_" and not re.search(rf"\b{each}\b", f"{own} {about}")]
        found += [f"{name} does not name {each}" for each in unnamed]
    return found


@pytest.mark.parametrize("path", sorted(public_names()))
def test_docstrings_name_every_parameter(path: str) -> None:
    assert lacking(public_names()[path]) == []


def test_all_names_are_looked_at() -> None:
    paths = public_names()
    assert len(paths) > 80
    assert {"HookedCLIP", "decompose", "datasets.FolderSource", "ablation.Components"} <= paths.keys()
    members = {name for name, _, _ in functions_of(paths["HookedCLIP"])}
    assert {"HookedCLIP.from_open_clip", "Hooking.hooks", "StackedWeights.W_Q"} <= members


def test_what_is_lacking_is_found() -> None:
    class Bad:
        """Of a size."""

        def __init__(self, size: int, colour: str) -> None: ...

        @property
        def shape(self) -> int: ...

        @classmethod
        def of(cls, size: int, weight: int) -> None:
            """Made of a size."""

    assert lacking(Bad) == [
        "Bad.__init__ does not name colour",
        "Bad.shape has no docstring",
        "Bad.of does not name weight",
    ]
