"""Models that come with the package, and where their weights lie."""

from __future__ import annotations

from pathlib import Path

EMBEDDED: dict[str, Path] = {
    "scenes": Path(__file__).parent / "weights",
    "scenes-planted": Path(__file__).parent / "weights_planted",
}
"""Name to folder: the model of drawn scenes, and the same trained on where two shapes have backgrounds of their own."""
