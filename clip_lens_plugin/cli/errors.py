"""What a user can mend ends in one line; what is a defect of ours keeps its traceback."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from clip_lens_plugin.cli.given.options import AGAIN
from clip_lens_plugin.cli.printing import say
from clip_lens_plugin.collection.errors import CollectionWarning, SkippedWarning
from clip_lens_plugin.hints import for_command_line
from clip_lens_plugin.not_there import NotThereError

USER_CAN_MEND = (ValueError, OSError, NotImplementedError, ArithmeticError, NotThereError)
How = str | Callable[[list[str]], str]
"""How to go on after Ctrl-C; or what gives all that is said then, for the notes on how much is kept."""

INTERRUPTED = 130
"""Exit code of a shell's command that Ctrl-C ended."""
MANY_SKIPPED = 3
"""Exit code of what was done, but with more than 5 % of the samples skipped."""
DAMAGED = 4
"""Exit code of ``verify`` where files of a store are damaged."""


@contextmanager
def one_line_ends(console: Console, how: How) -> Iterator[None]:
    """What ends a command, an error, Ctrl-C or SIGTERM, is said in one line.

    Args:
        console: of the line.
        how: see :func:`one_line_interrupt`; a text if what was collected is kept.
    """
    keeps = isinstance(how, str)
    with one_line_errors(console, keeps=keeps), one_line_interrupt(console, how), terminated_as_interrupted():
        yield


@contextmanager
def one_line_errors(console: Console, who: str = "clip-lens", go_on: str = AGAIN, keeps: bool = True) -> Iterator[None]:
    """Ends in exit code 2 and one line that begins with ``who``; what is said of a store is one line each.

    Args:
        console: of messages, which name options of the command line from here on.
        who: speaks.
        go_on, keeps: see :func:`~clip_lens_plugin.hints.for_command_line`.
    """
    try:
        with for_command_line(go_on if keeps else "run the same command again", keeps), _one_line_notes(console):
            yield
    except USER_CAN_MEND as error:
        notes = _notes(error) if keeps else []
        say(console, f"{who}: {'; '.join([str(error).removesuffix('.') if notes else str(error), *notes])}")
        raise typer.Exit(2) from None
    except (MemoryError, RuntimeError) as error:
        from clip_lens_plugin.model.loading.errors import first_line, is_no_memory

        if not is_no_memory(error):
            raise
        say(console, f"{who}: Memory ran out: {first_line(error)}. Give smaller batches, less data or a smaller model.")
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
            say(console, f"note: {message}")

        warnings.showwarning = show
        yield


@contextmanager
def one_line_interrupt(console: Console, how: How, shown: bool = True) -> Iterator[None]:
    """Ctrl-C ends in exit code 130 and one line that says what is kept and how to go on.

    Args:
        console: of the line.
        how: to go on.
        shown: whether there is a line.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if shown:
            notes = _notes(error)
            said = [*notes, how] if isinstance(how, str) else [how(notes)]
            say(console, "; ".join(["interrupted", *said]))
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, with which schedulers and torchrun end a process, does what Ctrl-C does: what is done is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _notes(error: BaseException) -> list[str]:
    """What :func:`~clip_lens_plugin.collection.running.collecting.collect` adds of how much is kept."""
    return getattr(error, "__notes__", [])
