"""Figures laid out by hand in inches, at the widths of a paper's column and page.

matplotlib's own layouts draw every text to find room for it, which takes most of the time of a small figure, and leave
panels of unequal height. Here text is cut to the room it has.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.numbers import tick_label

COLUMN = 3.3
PAGE = 6.8
"""Widths, in inches, of a paper's column and of both together."""

MARGIN = 0.08
"""Inches between the edge and what stands nearest."""

TITLE, TEXT, SMALL = 8.5, 7.5, 6.5
"""Sizes of letters in points; nothing is smaller than the last."""

MOST_LETTERS = 400

HINTED = 1.04
"""How much wider letters become that are put on a grid of pixels."""


class Sheet:
    """A figure, with places counted in inches from its upper left corner.

    Attributes:
        figure: what is drawn on.
        width, height: in inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height))
        self.width, self.height = width, height

    def axes(self, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
        """Axes whose frame lies there; ticks and labels stand outside of it."""
        place = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(place, **options)

    def text(self, left: float, top: float, text: str, size: float = TEXT, **options: Any) -> None:
        """Writes text whose upper left corner lies there."""
        at = (left / self.width, 1 - top / self.height)
        self.figure.text(*at, text, size=size, **{"va": "top", "linespacing": 1.25, **options})

    def heading(self, text: str) -> None:
        """Writes what the whole figure shows, in :func:`heading_height`."""
        self.text(MARGIN, MARGIN, wrapped(text, self.width - 2 * MARGIN, TITLE, 2), TITLE)

    def colour_bar(
        self, left: float, top: float, width: float, colours: Any, ends: tuple[float, float], label: str
    ) -> Axes:
        """A bar with numbers at its ends and in the middle, and what they are; :data:`BAR` inches high in all."""
        low, high = ends
        bar = self.axes(left, top, width, 0.09)
        steps = np.linspace(low, high, 255)[None]
        bar.imshow(steps, cmap=colours, vmin=low, vmax=high, aspect="auto", extent=(low, high, 0, 1))
        ticks = (low, (low + high) / 2, high)
        bar.set_xticks(ticks, labels=[tick_label(tick, low < 0) for tick in ticks])
        bar.set_yticks([])
        bar.tick_params(labelsize=SMALL, length=2, pad=1.5)
        bar.set_xlabel(label, size=SMALL, labelpad=1)
        return bar


BAR = 0.42
"""Inches that a colour bar takes with its numbers and its label."""


def line_height(size: float) -> float:
    """Inches from one line of text to the next."""
    return 1.3 * size / 72


def text_height(text: str, size: float) -> float:
    """Inches that the lines of a text take; nothing for none."""
    return line_height(size) * (text.count("\n") + 1) if text else 0.0


def heading_height(text: str, width: float) -> float:
    """Inches that :meth:`Sheet.heading` takes, with the room under it."""
    return text_height(wrapped(text, width - 2 * MARGIN, TITLE, 2), TITLE) + 0.08 if text else 0.0


def text_width(text: str, size: float) -> float:
    """Inches that one line takes at most: the sum of its letters' widths, without kerning, on any grid of pixels."""
    family = tuple(matplotlib.rcParams["font.family"])
    return HINTED * size * sum(_letter_width(letter, family) for letter in text)


@lru_cache(maxsize=4096)
def _letter_width(letter: str, family: tuple[str, ...]) -> float:
    """Inches of a letter one point high, with the room around it."""
    font = FontProperties(family=list(family), size=100)
    between, alone = (
        text_to_path.get_text_width_height_descent(text, font, False)[0] for text in (f"|{letter}|", "||")
    )
    return (between - alone) / 7200


def wrapped(text: str, inches: float, size: float, lines: int = 1) -> str:
    """The text on at most so many lines of a width; what does not fit ends in "…"."""
    rest, found = one_line(text, MOST_LETTERS), []
    while rest:
        fitting = _letters_that_fit(rest, inches, size)
        if fitting == len(rest):
            return "\n".join([*found, rest])
        if len(found) == lines - 1:
            kept = _letters_that_fit(rest, inches - text_width("…", size), size)
            return "\n".join([*found, rest[:kept].rstrip() + "…"])
        space = rest.rfind(" ", 1, fitting + 1)
        at = space if space > 0 else fitting
        found.append(rest[:at])
        rest = rest[at:].lstrip()
    return ""


def _letters_that_fit(text: str, inches: float, size: float) -> int:
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(text[:middle], size) <= inches else (low, middle - 1)
    return low
