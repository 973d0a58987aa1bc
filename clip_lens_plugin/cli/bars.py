"""Progress of a command."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bars(Progress):
    """One bar a stage, on stderr."""

    def __init__(self, console: Console) -> None:
        label = TextColumn("{task.description:<24}")
        super().__init__(label, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console)
        self._stages: dict[str, TaskID] = {}

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Moves the stage's bar, which begins where it is first told of."""
        if stage not in self._stages:
            self._stages[stage] = self.add_task(stage, total=total)
        self.update(self._stages[stage], completed=done, total=total)
