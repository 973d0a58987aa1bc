"""Sparse codes: each image, or direction, beside the words that it is the sum of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.describe.sparse_result import SparseText
from clip_lens_plugin.plain_text import signed
from clip_lens_plugin.views.drawing.encoding import picture_uri
from clip_lens_plugin.views.drawing.templates import TEMPLATES
from clip_lens_plugin.views.drawing.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_VECTORS, MOST_WORDS = 48, 12
"""Shown of a result, and of a vector at once; further words are folded."""

SIDE = 240
"""Longer side, in pixels, of a picture."""


def sparse_view(
    result: SparseText, pictures: Mapping[int, Image.Image] | None = None, *, n_words: int = MOST_WORDS
) -> View:
    """One card per image: the picture, and its words with their weights as bars, the greatest first.

    Bars of all cards have one scale. Those of directions go to both sides: orange adds, purple takes away.

    Args:
        result: of :func:`~clip_lens_plugin.describe.sparse.sparse_text`; the first 48 vectors are shown.
        pictures: that of each row; names alone stand where there is none.
        n_words: words of a vector that are shown at once.

    Raises:
        ValueError: if ``n_words`` is no whole number of at least 1.
    """
    n_words = checked_number("n_words", n_words)
    shown, both_signs = shown_rows(result), result.image_mean is None
    words = {row: result.words(row) for row in shown}
    greatest = max((abs(weight) for found in words.values() for _, weight in found), default=1.0)
    cards = []
    for row in shown:
        lines = [_line(text, weight, greatest, both_signs) for text, weight in words[row]]
        picture = None if pictures is None or row not in pictures else picture_uri(pictures[row], SIDE)
        cosine = float(result.cosine[row])
        cards.append(
            {
                "name": result.names[row],
                "uri": picture,
                "lines": lines[:n_words],
                "folded": lines[n_words:],
                "cosine": "" if math.isnan(cosine) else f"{cosine:.2f}",
            }
        )
    left_out = len(result) - len(cards)
    about = {"cards": cards, "about": result.about, "left_out": left_out, "both_signs": both_signs}
    body = TEMPLATES.get_template("sparse.html.j2").render(**about, greatest=f"{greatest:.2f}")

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.sparse import sparse_figure  # matplotlib, which a page does without.

        return sparse_figure(result, words, pictures or {})

    return View("Directions in words" if both_signs else "Images in words", Markup(body), figure)


def shown_rows(result: SparseText) -> range:
    """The vectors that a view shows."""
    return range(min(len(result), MOST_VECTORS))


def _line(text: str, weight: float, greatest: float, both_signs: bool) -> dict[str, Any]:
    part = abs(weight) / greatest
    length = 50 * part if both_signs else 100 * part
    left = 0.0 if not both_signs else 50 - length if weight < 0 else 50.0
    return {
        "text": text,
        "weight": signed(weight, 3) if both_signs else f"{weight:.3f}",
        "bar": f"left:{left:.2f}%;width:{length:.2f}%",
        "side": "cl-takes" if weight < 0 else "cl-adds",
    }
