"""What neurons add to one picture's cosines with texts, as bars to either side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from clip_lens_plugin.higher_order.frozen_run import FROZEN
from clip_lens_plugin.plain_text import printable, signed
from clip_lens_plugin.views.drawing.templates import TEMPLATES
from clip_lens_plugin.views.drawing.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cards = Mapping[str, Sequence[tuple[str, float]]]
"""By the name of a card, its lines: what each is called, and its value in cosine units."""

PLACES = 5
"""Of a number after the point."""


def neuron_pushes_view(title: str, about: str, cards: Cards) -> View:
    """One card per text or neuron; bars of all cards have one scale: orange adds, purple takes away.

    Args:
        title: plain text.
        about: what is shown, a sentence.
        cards: what is drawn.
    """
    greatest = max((abs(value) for lines in cards.values() for _, value in lines), default=0.0) or 1.0
    drawn = [
        {"name": printable(name), "lines": [_line(text, value, greatest) for text, value in lines]}
        for name, lines in cards.items()
    ]
    scale = f"{greatest:.{PLACES}f}"
    body = TEMPLATES.get_template("neuron_pushes.html.j2").render(
        frozen=FROZEN, about=about, greatest=scale, cards=drawn
    )

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.neurons.neuron_pushes import pushes_figure  # matplotlib.

        return pushes_figure(title, about, cards, greatest)

    return View(title, Markup(body), figure)


def _line(text: str, value: float, greatest: float) -> dict[str, str]:
    length = 50 * abs(value) / greatest
    left = 50 - length if value < 0 else 50.0
    return {
        "text": printable(text),
        "value": signed(value, PLACES),
        "bar": f"left:{left:.2f}%;width:{length:.2f}%",
        "side": "cl-takes" if value < 0 else "cl-adds",
    }
