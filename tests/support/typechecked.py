"""Every function of the package is checked by its annotations when tests call it: types by beartype, axes by jaxtyping.

jaxtyping's import hook has that done by :func:`jaxtyping.jaxtyped`, which at every call binds the arguments to their
names and checks them twice, in two functions that it makes: half of the time of all tests. Here one check is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import TypeCheckError, config
from jaxtyping._decorator import _destring_annotation as read
from jaxtyping._storage import pop_shape_memo, push_shape_memo

by_jaxtyping = jaxtyping.jaxtyped
by_beartype = beartype(conf=BeartypeConf(violation_type=TypeCheckError))


def typechecked(function: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """In the place of :func:`jaxtyping.jaxtyped`, which classes and generators are left to."""
    if function is None:
        return lambda given: typechecked(given, typechecker=typechecker)
    if not inspect.isfunction(function) or inspect.isgeneratorfunction(function):
        return by_jaxtyping(function, typechecker=typechecker)
    checked = by_beartype(_with_annotations(function))

    @wraps(function)
    def with_axes_of_its_own(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if config.jaxtyping_disable:
            return function(*args, **kwargs)
        push_shape_memo({})
        try:
            return checked(*args, **kwargs)
        finally:
            pop_shape_memo()

    return with_axes_of_its_own


def _with_annotations(function: FunctionType) -> FunctionType:
    """The same function, its annotations read; one that stands for a type checker alone is Any, as in jaxtyping."""
    code, known = function.__code__, function.__globals__
    same = FunctionType(code, known, function.__name__, function.__defaults__, function.__closure__)
    same.__qualname__, same.__module__ = function.__qualname__, function.__module__
    same.__kwdefaults__ = function.__kwdefaults__
    same.__annotations__ = {name: read(each, known) for name, each in function.__annotations__.items()}
    return same


def install() -> None:
    """For all modules that are imported from now on."""
    jaxtyping.jaxtyped = typechecked
