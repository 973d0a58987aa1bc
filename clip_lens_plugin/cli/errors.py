"""What a user can mend ends in one line; what is a defect of ours keeps its traceback."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from clip_lens_plugin.collection.errors import CollectionWarning, SkippedWarning

USER_CAN_MEND = (ValueError, OSError, NotImplementedError, ArithmeticError)
INTERRUPTED = 130
"""Exit code of a shell's command that Ctrl-C ended."""
MANY_SKIPPED = 3
"""Exit code of what was done, but with more than 5 % of the samples skipped."""
DAMAGED = 4
"""Exit code of ``verify`` where files of a collection are damaged."""


@contextmanager
def one_line_errors(console: Console, who: str = "clip-lens") -> Iterator[None]:
    """Ends in exit code 2 and one line that begins with ``who``; what is said of a collection is a line each."""
    try:
        with _one_line_notes(console):
            yield
    except USER_CAN_MEND as error:
        message = " ".join(str(error).split())
        console.print(f"{who}: {message}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None


@contextmanager
def _one_line_notes(console: Console) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always", CollectionWarning)
        warnings.simplefilter("ignore", SkippedWarning)  # A table is printed.
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, CollectionWarning):
                shown(message, category, *where, **more)
                return
            console.print(f"note: {' '.join(str(message).split())}", markup=False, soft_wrap=True)

        warnings.showwarning = show
        yield


@contextmanager
def one_line_interrupt(console: Console, how: str, shown: bool = True) -> Iterator[None]:
    """Ctrl-C ends in exit code 130 and one line that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        if shown:
            console.print(f"interrupted; {how}", markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
