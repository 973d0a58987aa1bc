"""Progress of a command."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bars(Progress):
    """One bar per stage, on stderr."""

    def __init__(self, console: Console, transient: bool = False) -> None:
        columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        hidden = transient and not console.is_terminal  # Where nothing can be wiped out, it would leave blank lines.
        super().__init__(*columns, console=console, transient=transient, disable=hidden)
        self._stages: dict[str, TaskID] = {}

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Moves the stage's bar, which begins at its first step."""
        if stage not in self._stages:
            self._stages[stage] = self.add_task(stage, total=total)
        self.update(self._stages[stage], completed=done, total=total)
