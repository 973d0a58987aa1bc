"""What a user can mend ends in one line; what is a defect of ours keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

USER_CAN_MEND = (ValueError, OSError, NotImplementedError, ArithmeticError)
INTERRUPTED = 130
"""Exit code of a shell's command that Ctrl-C ended."""


@contextmanager
def one_line_errors(console: Console, who: str = "clip-lens") -> Iterator[None]:
    """Ends in exit code 2 and one line that begins with ``who``."""
    try:
        yield
    except USER_CAN_MEND as error:
        message = " ".join(str(error).split())
        console.print(f"{who}: {message}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None


@contextmanager
def one_line_interrupt(console: Console, how: str, shown: bool = True) -> Iterator[None]:
    """Ctrl-C ends in exit code 130 and one line that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        if shown:
            console.print(f"interrupted; {how}", markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
