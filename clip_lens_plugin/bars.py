"""Bars of long work, on stderr, and whoever else follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from operator import length_hint
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TaskID

Each = TypeVar("Each")

Follower = Callable[[str, float | int, float | int | None], object]
"""Is called with what is done, how many are, and of how many; None where nobody knows. What it raises ends the work."""

_follower: ContextVar[Follower | None] = ContextVar("follower", default=None)


@contextmanager
def followed(by: Follower) -> Iterator[None]:
    """Work within is followed, seen or not, from its first bar to its last; in this thread alone."""
    before = _follower.set(by)
    try:
        yield
    finally:
        _follower.reset(before)


class Bars(Progress):
    """Bars on stderr; their steps are also passed to whoever follows.

    Args:
        columns: of a bar; Rich's own if not given.
        visible: show them; else they are only followed.
    """

    def __init__(self, *columns: str | ProgressColumn, visible: bool) -> None:
        super().__init__(*columns, console=Console(stderr=True), disable=not visible)
        self._follower = _follower.get()

    def advance(self, task_id: TaskID, advance: float | int = 1) -> None:
        """Moves a bar."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: TaskID, **changed: Any) -> None:
        """Changes a bar."""
        super().update(task_id, **changed)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        if self._follower is not None:
            task = next(each for each in self.tasks if each.id == task_id)
            self._follower(task.description, task.completed, task.total)


def tracked(each: Iterable[Each], what: str, visible: bool, total: int | None = None) -> Iterator[Each]:
    """The same one after another, with a bar.

    Args:
        each: is gone through.
        what: is done with each, beside the bar.
        visible: show the bar.
        total: how many there are; as many as their length says if not given.
    """
    with Bars(visible=visible) as bars:
        task = bars.add_task(what, total=total or length_hint(each) or None)
        for one in each:
            yield one
            bars.advance(task)
