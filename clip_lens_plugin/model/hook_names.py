"""What is looked up by the name of a hook point: who asks for one that is not there is told what is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, TypeVar

V = TypeVar("V")


class HookNotFoundError(KeyError):
    """There is no hook point of that name, or the cache does not hold it; the message names what is near."""

    def __str__(self) -> str:
        return str(self.args[0])


class ByHookName(dict[str, V]):
    """A plain dictionary, but for its error where a name is not in it.

    Args:
        what: "the model has no hook point", or what else is true of a name that is not in it.
        known: names that there are in the model.
    """

    def __init__(self, given: Any, what: str, known: Iterable[str]) -> None:
        super().__init__(given)
        self.what, self.known = what, tuple(known)

    def __missing__(self, name: object) -> V:
        raise no_such_hook(name, self.what, self.known)

    def __reduce__(self) -> Any:
        return type(self), (dict(self), self.what, self.known)


def no_such_hook(name: object, what: str, known: Iterable[str]) -> HookNotFoundError:
    """The error for a name that is not there."""
    names = list(known)
    blocks = [int(found.group(1)) for found in (re.match(r"blocks\.(\d+)\.", each) for each in names) if found]
    asked = re.match(r"blocks\.(\d+)\.", str(name))
    if str(name) in names:
        rest = "It was not asked for, or its activation was dropped: name it in names_filter."
    elif blocks and asked and int(asked.group(1)) > max(blocks):
        rest = f"There are blocks 0 to {max(blocks)}."
    else:
        rest = f"The nearest of {len(names)} are {nearest(str(name), names, 3)}."
    return HookNotFoundError(f"{what} {str(name)!r}. {rest}")


def nearest(name: str, known: Iterable[object], n: int) -> list[str]:
    """The ``n`` known names that are spelt most like ``name``."""
    return difflib.get_close_matches(name, [str(each) for each in known], n, cutoff=0.0)
