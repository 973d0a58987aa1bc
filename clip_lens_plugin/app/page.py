"""What a page is: what it is asked beside picture and texts, who answers, and the call that a script makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clip_lens_plugin.app.answers import Rows
from clip_lens_plugin.app.asked import Asked
from clip_lens_plugin.app.explored import Explored, Spelled
from clip_lens_plugin.app.long_work import Working
from clip_lens_plugin.app.state import State
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.shown import Shown
from clip_lens_plugin.views.drawing.view import View, aside

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Answer:
    """What a page shows.

    Attributes:
        rows: of a table of numbers; the first is its header.
        views: in a frame.
        result: is saved as a page, a figure or a table.
        height: of the frame, in pixels.
    """

    rows: Rows
    views: list[View]
    result: Shown
    height: int = 900


@dataclass(frozen=True)
class Question:
    """A picture, and what a page is asked of it.

    Attributes:
        explored: the model and the data.
        look: gives the picture, run; raises ValueError where it is not in reach.
        state: texts, parts and heads.
        row: of the data; None for a picture that was uploaded.
    """

    explored: Explored
    look: Callable[[], Asked]
    state: State
    row: int | None

    @property
    def asked(self) -> Asked:
        """The picture, run.

        Raises:
            ValueError: if it is not in reach, or cannot be used.
        """
        return self.look()

    @property
    def own(self) -> Contributions:
        """The picture's contributions in cosine units: of its run, or those of its row where it is not in reach."""
        if self.row is None or self.row in self.explored.pictures:
            return self.asked.own
        return self.explored.data.select([self.row]).normalized()


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: of its tab.
        about: what it is for.
        answer: what is known at once comes first, then more; :class:`Working` while it waits for long work.
        script: the call that gives the same, of a state, an expression for the picture, and how data are spelled.
        choices: names of what it is asked beside picture and texts, see ``choices``.
    """

    title: str
    about: str
    answer: Callable[[Question], Iterator[Answer | Working]]
    script: Callable[[State, str, Spelled], str]
    choices: tuple[str, ...] = ()


def said(title: str, sentence: str) -> View:
    """A sentence in the place of a view that there is none of."""

    def figure() -> Figure:
        from matplotlib.figure import Figure  # A page does without.

        drawn = Figure(figsize=(6, 1))
        drawn.text(0.02, 0.5, sentence, wrap=True)
        return drawn

    return View(title, aside(sentence), figure)
