"""A decision on its photograph: the patches and the heads that decide, and what the model says without these heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.decisions.decision import Decision
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.maps.crop_geometry import Placement
from clip_lens_plugin.maps.pictured import Pictured
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.crops import Box, crop_box, hides_something
from clip_lens_plugin.views.drawing.encoding import picture_uri, png_uri
from clip_lens_plugin.views.drawing.numbers import signed, tick_label
from clip_lens_plugin.views.drawing.templates import TEMPLATES
from clip_lens_plugin.views.drawing.view import View
from clip_lens_plugin.views.maps.map_stills import painted
from clip_lens_plugin.views.words.decision import Block, Trial, blocks, trials
from clip_lens_plugin.views.words.maps import greatest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 480
"""Longer side, in pixels, of the photograph."""

LONGEST_TITLE = 80
"""Characters of each text."""


def decision_view(
    decision: Decision,
    picture: Image.Image | None = None,
    placement: Placement | None = None,
    *,
    name: str | None = None,
) -> View:
    """The photograph with the patches that decide, the heads that decide, and the gap without some of these heads.

    The page needs no script. Orange speaks for the first text, purple for the second.

    Args:
        decision: of :func:`~clip_lens_plugin.decisions.explaining.explain`.
        picture: the photograph, or what the model sees of it; the one that was explained if not given.
        placement: where on the photograph the model's input lies; as the model's preprocessing puts it if not given.
        name: of the image; its file's if not given.

    Raises:
        ValueError: if there is no picture, or it cannot be what the model saw; or if the placement is of a photograph
            of another size.
    """
    if placement is None:
        picture, placement = (decision.pictured or Pictured()).placed(decision.grid_size, picture)
    elif picture is None:
        raise ValueError("The placement is of a photograph: give the picture as well.")
    picture = upright_rgb(picture)
    box = crop_box(picture, placement, decision.grid_size, "nearest")
    a, b = (one_line(text, LONGEST_TITLE) for text in decision.texts)
    title = f"Why “{a}” rather than “{b}”" if decision.gap > 0 else f"Why “{b}” rather than “{a}”"

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.decision import decision_figure  # matplotlib, which a page does without.

        return decision_figure(decision, picture, box)

    shown = blocks(decision)
    sign = () if decision.gap > 0 else (f"The numbers below are of “{a}” less “{b}”: the answer is below zero there.",)
    body = TEMPLATES.get_template("decision.html.j2").render(
        name=decision.name if name is None else name,
        texts=(a, b),
        sentences=(*decision.sentences(), *sign),
        photograph=_photograph(decision, picture, box, shown),
        blocks=[_block(each, decision.gap) for each in shown],
        trials=[_trial(each) for each in trials(decision)],
        faded=hides_something(box),
        described=decision.spans is not None,
    )
    return View(title, Markup(body), figure)


def _photograph(decision: Decision, picture: Image.Image, box: Box, shown: Sequence[Block]) -> dict[str, Any]:
    maps = decision.map()
    limit, (rows, columns) = greatest(maps), decision.grid_size
    left, top, width, height = (100 * each for each in box)
    marks = [
        {
            "mark": line.mark,
            "side": "for-a" if line.gap > 0 else "for-b",
            "style": f"left:{100 * line.place[1] / columns:.2f}%;top:{100 * line.place[0] / rows:.2f}%;"
            f"width:{100 / columns:.2f}%;height:{100 / rows:.2f}%",
        }
        for block in shown
        for line in block.lines
        if line.place is not None
    ]
    return {
        "uri": picture_uri(picture, SIDE),
        "place": f"left:{left:.2f}%;top:{top:.2f}%;width:{width:.2f}%;height:{height:.2f}%",
        "map": png_uri(painted(maps.values[0, 0].numpy() / limit)),
        "limit": tick_label(limit, False),
        "marks": marks,
    }


def _block(block: Block, gap: float) -> dict[str, Any]:
    lines = [
        {
            "name": line.name,
            "value_text": signed(line.gap, 4),
            "texts": line.texts,
            "less_mean": None if line.removed_gap is None else signed(line.removed_gap, 4),
            "mark": line.mark,
            "chip": line.chip,
            "bar": _bar(line.gap / block.limit) if line.alone else None,
            "side": "for-a" if line.gap > 0 else "for-b",
        }
        for line in block.lines
    ]
    return {"title": block.title, "lines": lines, "sum": signed(gap, 4), "error": f"{block.error:.0e}"}


def _bar(relative: float) -> str:
    """Where a bar lies that goes from the middle to either side."""
    length = 50 * min(1.0, abs(relative))
    return f"left:{50 - length if relative < 0 else 50:.2f}%;width:{length:.2f}%"


def _trial(trial: Trial) -> dict[str, Any]:
    every = [gap for line in trial.lines for gap in line.gaps]
    low, high = min(*every, 0.0), max(*every, 0.0)
    room = 0.05 * (high - low)
    low, span = low - room, (high - low) + 2 * room
    lines = [
        {
            "name": line.name,
            "outcome": line.outcome,
            "dots": [
                {
                    "left": f"{100 * (gap - low) / span:.2f}",
                    "side": "random" if line.is_random else "for-a" if gap > 0 else "for-b",
                    "value_text": signed(gap, 4),
                }
                for gap in line.gaps
            ],
        }
        for line in trial.lines
    ]
    return {"title": trial.title, "lines": lines, "zero": f"{100 * -low / span:.2f}"}
