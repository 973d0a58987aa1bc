"""Colours of figures and pages, which colour-blind readers can tell apart: one meaning, one colour.

Orange adds, purple takes away, white is nothing; weights, which have no sign, go from white to orange. Over a picture
the same two colours go from clear at 0, so that what adds nothing hides nothing, to :data:`OPACITY`, which still lets
the photograph through.
"""

from __future__ import annotations

SIGNED = "PuOr_r"
"""Colour map of signed values: purple below zero, white at zero, orange above."""

WEIGHTS = "Oranges"
"""Colour map of values from 0 up."""

ADDS, TAKES = "#e66101", "#5e3c99"
"""Of bars and of what lies over photographs: the ends of :data:`SIGNED`."""

OPACITY = 0.75
"""Of the greatest value over a photograph; a value's own grows with its magnitude."""

SHADES = ("#b35806", "#f1a340", "#fee0b6", "#d8daeb", "#998ec3", "#542788")
"""Of what stands in an order, such as the texts of a head: the first has the first."""

NEUTRAL = "0.6"
"""Of bars that are in no order and have no layer."""

LINE_STYLES = [
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#000000", "v"),
    ("#E69F00", "P"),
    ("#56B4E9", "X"),
]
"""Okabe and Ito's colours, each with a marker of its own."""

TOPICS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Of texts that have patches each, the same palette: the first text has the first."""

FURTHER_TOPICS = "#000000"
"""Of all texts beyond those."""


def topics(n: int) -> list[str]:
    """The colours of n texts."""
    return [*TOPICS[:n], *[FURTHER_TOPICS] * (n - len(TOPICS))]


def over_photograph() -> dict[str, object]:
    """The same for scripts: colours as [red, green, blue] of 0 to 255, and the opacity of the greatest value."""
    return {"adds": rgb(ADDS), "takes": rgb(TAKES), "opacity": OPACITY}


def rgb(colour: str) -> list[int]:
    """Red, green and blue of 0 to 255, of a colour such as "#e66101"."""
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def on_white(relative: float) -> str:
    """What a value over a photograph has for a colour on white, as "#e66101"; its size is at most 1."""
    part = OPACITY * abs(relative)
    mixed = (round(255 + part * (each - 255)) for each in rgb(TAKES if relative < 0 else ADDS))
    return "#" + "".join(f"{each:02x}" for each in mixed)
