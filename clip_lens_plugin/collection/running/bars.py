"""What is seen while a store is made: on stderr, of this process's samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from clip_lens_plugin.bars import Bars

LABEL = TextColumn("collecting")


def working(what: str, visible: bool) -> AbstractContextManager[Any]:
    """Says what is being done, for as long as it is; on a terminal alone."""
    return Console(stderr=True).status(what) if visible else nullcontext()


def all_there(n: int, visible: bool) -> None:
    """Says that nothing is left to be done."""
    if visible:
        Console(stderr=True, highlight=False).print(f"all {n:,} were there already")


def told_before(what: str, visible: bool) -> None:
    """Says what will be kept or left out, and how large it is."""
    if visible:
        Console(stderr=True, highlight=False).print(what)


@contextmanager
def samples_bar(visible: bool, total: int, done: int) -> Iterator[Callable[[int], object]]:
    """A bar over samples, some of which were done before; what is given is called with how many more are."""
    columns = (LABEL, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, visible=visible) as bars:
        task = bars.add_task("collecting", total=total, completed=done)
        yield lambda n: bars.advance(task, n)


@contextmanager
def stream_bar(visible: bool, done: int) -> Iterator[Callable[[int], object]]:
    """As :func:`samples_bar` without an end; what is given is called with how many samples are done."""
    columns = (LABEL, BarColumn(), TextColumn("{task.completed:,} samples"), TimeElapsedColumn())
    with Bars(*columns, visible=visible) as bars:
        task = bars.add_task("collecting", total=None, completed=done)
        yield lambda now: bars.update(task, completed=now)
