"""Options that several commands take together: a dataclass has one option in each field."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of the dataclasses that it takes, which it receives made of them."""
    signature = inspect.signature(command, eval_str=True)
    sets: dict[str, Any] = {
        name: each.annotation for name, each in signature.parameters.items() if is_dataclass(each.annotation)
    }
    of_sets = {name: _options(kind) for name, kind in sets.items()}
    own = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, each in signature.parameters.items()
        if name not in sets
    ]

    @wraps(command)
    def with_sets(**given: Any) -> None:
        made = {
            name: sets[name](**{each.name: given.pop(each.name) for each in options})
            for name, options in of_sets.items()
        }
        command(**given, **made)

    # The model's options, which every command has, come last.
    parameters = [*own, *(each for options in reversed(of_sets.values()) for each in options)]
    with_sets.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_sets.__annotations__ = {each.name: each.annotation for each in parameters}
    del with_sets.__wrapped__  # typer would read the command's own parameters through it.
    return with_sets


def _options(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(kind)
    ]
