"""Colours of figures, which colour-blind readers can tell apart."""

from __future__ import annotations

SIGNED = "PuOr_r"
"""Colour map of signed values: purple below zero, white at zero, orange above."""

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
