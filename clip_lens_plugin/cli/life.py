"""A command's first sign of life: at once, and before what takes seconds to import is imported."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console

SLOWEST = "torch"
"""The module whose import takes longest."""


def is_alone() -> bool:
    """Whether torchrun started no other process beside this one."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


def is_first() -> bool:
    """Whether this is the only process, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def starting(console: Console) -> Iterator[None]:
    """Says that the command is starting, while libraries are imported inside.

    A terminal shows it for as long as that takes; elsewhere it is one line, and none where nothing is left to import.
    Of processes that torchrun started, the first speaks.
    """
    slow = SLOWEST not in sys.modules
    speaks = slow and is_first()
    if speaks and not console.is_terminal:
        console.print("clip-lens: starting")
    with (
        console.status("starting") if speaks and console.is_terminal else nullcontext(),
        _kept_for_good() if slow else nullcontext(),
    ):
        yield


@contextmanager
def _kept_for_good() -> Iterator[None]:
    """Looks for no garbage in what is made inside: libraries' modules stay until the process ends.

    Going through them again and again, while others are imported and at the end, took a fifth of a short command.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
