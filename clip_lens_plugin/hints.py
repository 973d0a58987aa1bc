"""How to mend an error, as whoever reads it would write it: a call in Python, or options of the command line."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class _Command:
    go_on: str
    keeps: bool


_COMMAND: ContextVar[_Command | None] = ContextVar("the command that runs", default=None)
"""None where messages are for who writes Python."""


@contextmanager
def for_command_line(go_on: str, keeps: bool = True) -> Iterator[None]:
    """Inside, messages name options of the command line, and no call in Python.

    Args:
        go_on: how a store that was cut off is gone on with, see :func:`go_on`.
        keeps: whether the command keeps what it collected when it is cut off.
    """
    before = _COMMAND.set(_Command(go_on, keeps))
    try:
        yield
    finally:
        _COMMAND.reset(before)


def hint(python: str, command_line: str) -> str:
    """The one of the two that is for who reads the message."""
    return python if _COMMAND.get() is None else command_line


def given_as(keyword: str) -> str:
    """What an argument is called: "image_mean", or "--image-mean" on the command line."""
    return hint(keyword, f"--{keyword.replace('_', '-')}")


def go_on() -> str:
    """How a store that was cut off is gone on with, as a clause: "go on with resume"."""
    command = _COMMAND.get()
    return "go on with resume" if command is None else command.go_on


def kept_so_far() -> str:
    """What is left of a store that was cut off, as a clause."""
    command = _COMMAND.get()
    return "What was collected so far is kept" if command is None or command.keeps else "Nothing is kept"


def typed(*words: str | os.PathLike[str]) -> str:
    """The words as one types them into a shell."""
    return shlex.join(os.fspath(word) for word in words)
