"""What commands print of a user's names, texts and reasons: on one line, made printable, and not without end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from clip_lens_plugin.hints import typed
from clip_lens_plugin.plain_text import one_line, printable

MOST_OF_LINE = 3000
MOST_OF_CELL = 300
"""Characters that are shown."""


def say(console: Console, text: str) -> None:
    """Prints a sentence on one line, whatever stands in it."""
    console.print(Text(one_line(text, MOST_OF_LINE)), soft_wrap=True)


def cell(text: str) -> Text:
    """A table's cell that shows the text as it is: neither rich's markup nor its names of pictographs."""
    return Text(one_line(text, MOST_OF_CELL))


def say_next(console: Console, *words: str | os.PathLike[str]) -> None:
    """The next command to try, as it is typed."""
    # A path may hold two spaces, which must stay two.
    console.print(Text(printable(f"next: {typed('clip-lens', *words)}", MOST_OF_LINE)), soft_wrap=True)


def print_path(path: str | Path) -> None:
    """Prints where something was written: exactly, to go on with; on a terminal made printable."""
    typer.echo(printable(os.fspath(path)) if sys.stdout.isatty() else os.fsencode(path))
