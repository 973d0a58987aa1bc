"""Numbers as figures and pages write them."""

from __future__ import annotations


def signed(value: float, places: int) -> str:
    """The number with its sign and so many places after the point; what rounds to nothing is 0 without a sign."""
    told = f"{value:+.{places}f}"
    return told[1:] if float(told) == 0 else told.replace("-", "−")


def tick_label(value: float, with_sign: bool) -> str:
    """The number to two digits."""
    return f"{value:{'+' if with_sign and value else ''}.2g}".replace("-", "−")
