"""Does something to modules of another library as soon as they have been imported, and imports none itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Action = Callable[[ModuleType], object]


def after_import(actions: Mapping[str, Action]) -> None:
    """Calls each action with its module: at once where that is loaded already, else when it has been.

    A second call with the same actions, while all of them wait, changes nothing.

    Args:
        actions: what to do, by the module's full name. Another thread may see the module before it is done.
    """
    if any(isinstance(each, _Finder) and each.waits_for(actions) for each in sys.meta_path):
        return
    finder = _Finder(actions)
    sys.meta_path.insert(0, finder)
    for name in actions:
        if sys.modules.get(name) is not None:
            finder.loaded(import_module(name))  # Waits for a thread that is loading it.


class _Finder:
    """Stands first in ``sys.meta_path`` until each of its modules was imported."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = dict(actions)

    def waits_for(self, actions: Mapping[str, Action]) -> bool:
        """Whether this is what it is to do."""
        return self._actions == actions

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that later finders give, with a loader that also runs the actions; None for other modules."""
        if name not in self._actions:
            return None
        finders = list(sys.meta_path)
        behind = finders[finders.index(self) + 1 :] if self in finders else finders
        found = (each.find_spec(name, path, target) for each in behind)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec

    def loaded(self, module: ModuleType) -> None:
        """Does what is to be done, once, and goes where nothing is left to wait for."""
        action = self._actions.pop(module.__name__, None)
        if action is not None:
            action(module)
        if not self._actions:
            # A list of its own: a thread that goes through the old one would miss the finder after one taken out.
            sys.meta_path = [each for each in sys.meta_path if each is not self]


class _Loader:
    """A module's own loader, and what is done after it. The module does not keep it."""

    def __init__(self, own: Any, finder: _Finder) -> None:
        self._own, self._finder = own, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the module's own loader."""
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the module's own loader; if that fails, the next import of the module is waited for."""
        module.__loader__ = self._own
        if module.__spec__ is not None:
            module.__spec__.loader = self._own
        self._own.exec_module(module)
        self._finder.loaded(module)
