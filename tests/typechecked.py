"""Every function of the package is checked by its annotations when tests call it: types by beartype, axes by jaxtyping.

jaxtyping's import hook has that done by :func:`jaxtyping.jaxtyped`, which at every call binds the arguments to their
names and checks them twice, in two functions that it makes: half of the time of all tests. Here one check is made.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep612Exception
from jaxtyping import TypeCheckError, config
from jaxtyping._storage import pop_shape_memo, push_shape_memo

by_jaxtyping = jaxtyping.jaxtyped
by_beartype = beartype(conf=BeartypeConf(violation_type=TypeCheckError))


def typechecked(function: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """In the place of :func:`jaxtyping.jaxtyped`, which classes and generators are left to."""
    if function is None:
        return lambda given: typechecked(given, typechecker=typechecker)
    if not inspect.isfunction(function) or inspect.isgeneratorfunction(function) or not _is_resolved(function):
        return by_jaxtyping(function, typechecker=typechecker)
    try:
        checked = by_beartype(function)
    except BeartypeDecorHintPep612Exception:  # It looks for P.args and P.kwargs as they are, not as text.
        return by_jaxtyping(function, typechecker=typechecker)

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


def _is_resolved(function: Callable[..., Any]) -> bool:
    """Whether all names in its annotations are known: not those imported for type checkers alone, or defined below."""
    told = [each for each in function.__annotations__.values() if isinstance(each, str)]
    names = {node.id for each in told for node in ast.walk(ast.parse(each, mode="eval")) if isinstance(node, ast.Name)}
    return all(name in function.__globals__ or hasattr(builtins, name) for name in names)


def install() -> None:
    """For all modules that are imported from now on."""
    jaxtyping.jaxtyped = typechecked
