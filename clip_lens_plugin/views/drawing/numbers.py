"""Numbers as figures and pages write them."""

from __future__ import annotations

import math

from clip_lens_plugin.plain_text import signed as signed
from clip_lens_plugin.plain_text import two_digits


def tick_label(value: float, with_sign: bool) -> str:
    """The number to two digits."""
    return f"{'+' if with_sign and value > 0 else ''}{two_digits(value)}".replace("-", "−")


def places_for(greatest: float) -> int:
    """Decimal places with which the greatest of some numbers shows two digits; four at least, as of a cosine."""
    return min(8, max(4, 1 - math.floor(math.log10(greatest)))) if greatest > 0 else 4


def places_of_two_digits(greatest: float) -> int:
    """Decimal places with which the greatest of some numbers shows two digits, where room is scarce."""
    return min(8, max(0, 1 - math.floor(math.log10(greatest)))) if 0 < greatest < math.inf else 0
