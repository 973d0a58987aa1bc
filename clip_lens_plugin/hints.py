"""How to mend an error, as whoever reads it would write it: a call in Python, or options of the command line."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_GO_ON: ContextVar[str | None] = ContextVar("how a command goes on with a collection", default=None)
"""None where messages are for who writes Python."""


@contextmanager
def for_command_line(go_on: str) -> Iterator[None]:
    """Inside, messages name options of the command line, and no call in Python.

    Args:
        go_on: how a collection that was cut off is gone on with, see :func:`go_on`.
    """
    before = _GO_ON.set(go_on)
    try:
        yield
    finally:
        _GO_ON.reset(before)


def hint(python: str, command_line: str) -> str:
    """The one of the two that is for who reads the message."""
    return python if _GO_ON.get() is None else command_line


def given_as(keyword: str) -> str:
    """What an argument is called: "image_mean", or "--image-mean" on the command line."""
    return hint(keyword, f"--{keyword.replace('_', '-')}")


def go_on() -> str:
    """How a collection that was cut off is gone on with, as a clause: "go on with resume"."""
    return _GO_ON.get() or "go on with resume"


def typed(*words: str | os.PathLike[str]) -> str:
    """The words as one types them into a shell."""
    return shlex.join(os.fspath(word) for word in words)
