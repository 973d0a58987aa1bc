"""Numbers as figures and pages write them."""

from __future__ import annotations

import math


def signed(value: float, places: int) -> str:
    """The number with its sign and so many places after the point; what rounds to nothing is 0 without a sign."""
    told = f"{value:+.{places}f}"
    return told[1:] if float(told) == 0 else told.replace("-", "−")


def tick_label(value: float, with_sign: bool) -> str:
    """The number to two digits."""
    return f"{value:{'+' if with_sign and value else ''}.2g}".replace("-", "−")


def places_for(greatest: float) -> int:
    """So many places that the greatest of some numbers shows two digits; four at least, as of a cosine."""
    return min(8, max(4, 1 - math.floor(math.log10(greatest)))) if greatest > 0 else 4
