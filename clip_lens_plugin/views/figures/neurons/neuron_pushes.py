"""A static figure of what neurons add to one picture's cosines: bars to either side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from clip_lens_plugin.higher_order.frozen_run import FROZEN
from clip_lens_plugin.plain_text import signed
from clip_lens_plugin.views.drawing.colours import ADDS, TAKES
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import (
    MARGIN,
    PAGE,
    SMALL,
    TEXT,
    Sheet,
    heading_height,
    line_height,
    text_height,
    wrapped,
)

NAMES, NUMBERS, STEP = 3.2, 0.5, 0.17
"""Inches of what a bar is of, of its number, and from one bar to the next."""


@plainly_lettered
def pushes_figure(title: str, about: str, cards: Mapping[str, Sequence[tuple[str, float]]], greatest: float) -> Figure:
    """One block per card, one line per bar; all bars have one scale.

    Args:
        title: over all.
        about: what is shown.
        cards: lines by the name of each.
        greatest: length of the longest bar.
    """
    note = wrapped(f"{about} {FROZEN[0].upper()}{FROZEN[1:]}.", PAGE - 2 * MARGIN, SMALL, 3)
    names = {name: wrapped(name, PAGE - 2 * MARGIN, TEXT, 2) for name in cards}
    heading = line_height(TEXT) * 0.4
    high = [text_height(names[name], TEXT) + heading + STEP * len(lines) for name, lines in cards.items()]
    top = MARGIN + heading_height(title, PAGE)
    sheet = Sheet(PAGE, top + sum(high) + text_height(note, SMALL) + 2 * MARGIN)
    sheet.heading(title)
    width = PAGE - 2 * MARGIN - NAMES - NUMBERS
    for (name, lines), step in zip(cards.items(), high, strict=True):
        sheet.text(MARGIN, top, names[name], TEXT, weight="bold")
        start = top + text_height(names[name], TEXT) + heading / 2
        axes = sheet.axes(MARGIN + NAMES, start, width, STEP * len(lines))
        values = [value for _, value in lines]
        axes.barh(range(len(values)), values, height=0.7, color=[ADDS if each > 0 else TAKES for each in values])
        axes.axvline(0, color="0.3", lw=0.6)
        axes.set_xlim(-1.02 * greatest, 1.02 * greatest)
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.axis("off")
        for place, (text, value) in enumerate(lines):
            middle = start + STEP * (place + 0.5)
            sheet.text(MARGIN, middle, wrapped(text, NAMES - 0.06, SMALL), SMALL, va="center")
            sheet.text(PAGE - MARGIN, middle, signed(value, 5), SMALL, va="center", ha="right")
        top += step
    sheet.text(MARGIN, top + MARGIN, note, SMALL)
    return sheet.figure
