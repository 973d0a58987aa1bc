"""The static figure of a decision: the photograph and its patches, the heads, and the gap without some of these."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from clip_lens_plugin.decisions.decision import Decision
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.colour_maps import SIGNED_OVER_PHOTOGRAPH
from clip_lens_plugin.views.drawing.colours import ADDS, NEUTRAL, TAKES
from clip_lens_plugin.views.drawing.crops import Box, hides_something
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import (
    BAR,
    MARGIN,
    PAGE,
    SMALL,
    TEXT,
    Sheet,
    heading_height,
    text_height,
    wrapped,
)
from clip_lens_plugin.views.drawing.numbers import signed
from clip_lens_plugin.views.figures.maps.maps import FADED, Cell, panel_in, show_map
from clip_lens_plugin.views.words.decision import Block, Trial, heads_block, patches_block, trials
from clip_lens_plugin.views.words.maps import greatest

PANEL = 2.2
"""Inches of the photograph's longer side."""

NAMES, BARS = 1.1, 1.15
"""Inches of the heads' names, and of their bars."""

STEP, STRIP = 0.26, 0.17
"""Inches from one head to the next, and from one gap to the next."""

SIDE = 2.0
"""Inches for the name of either end of the gaps."""

LONGEST_TEXT = 60
"""Characters."""


@plainly_lettered
def decision_figure(decision: Decision, picture: Image.Image, box: Box) -> Figure:
    """A figure as wide as a page.

    Args:
        decision: what is shown.
        picture: the photograph.
        box: of all patches together, as parts of it.
    """
    heads, tried = heads_block(decision), trials(decision)
    said = [wrapped(each, PAGE - 2 * MARGIN, SMALL, 4) for each in decision.sentences()]
    first = wrapped(said[0], PAGE - 2 * MARGIN, TEXT, 3)
    top = MARGIN + heading_height(decision.name, PAGE)
    upper = top + text_height(first, TEXT) + 0.12
    legend = _legend(decision, box)
    left_high = _height(picture) + 0.06 + BAR + text_height(legend, SMALL)
    lower = upper + max(left_high, 0.2 + STEP * len(heads.lines)) + 0.12
    below = lower + sum(0.24 + STRIP * len(each.lines) + 0.16 for each in tried)
    rest = said[1:]
    sheet = Sheet(PAGE, below + sum(text_height(each, SMALL) + 0.03 for each in rest) + 0.08)
    sheet.heading(decision.name)
    sheet.text(MARGIN, top, first, TEXT)
    _show_patches(sheet, decision, picture, box, upper, legend)
    _show_heads(sheet, heads, upper)
    at = lower
    for each in tried:
        _show_trial(sheet, each, decision.texts, at)
        at += 0.24 + STRIP * len(each.lines) + 0.16
    for each in rest:
        sheet.text(MARGIN, at, each, SMALL)
        at += text_height(each, SMALL) + 0.03
    return sheet.figure


def _height(picture: Image.Image) -> float:
    """Inches of the photograph, which is as wide as there is room, or as high as it is wide if that is less."""
    return PANEL * min(1.0, picture.height / picture.width)


def _legend(decision: Decision, box: Box) -> str:
    a, b = (one_line(text, LONGEST_TEXT) for text in decision.texts)
    lines = [f"Orange speaks for “{a}”, purple for “{b}”."]
    lines += [FADED] if hides_something(box) else []
    return "\n".join(wrapped(line, PANEL, SMALL, 3) for line in lines)


def _show_patches(sheet: Sheet, decision: Decision, picture: Image.Image, box: Box, top: float, legend: str) -> None:
    maps, (rows, columns) = decision.map(), decision.grid_size
    limit = greatest(maps)
    high = _height(picture)
    axes = panel_in(sheet, Cell(MARGIN, top, (PANEL, high)), picture.width / picture.height)
    show_map(axes, picture, box, maps.values[0, 0].numpy() / limit, "nearest")
    left, right, bottom, upper = axes.images[1].get_extent()
    wide, tall = (right - left) / columns, (bottom - upper) / rows
    for line in patches_block(decision).lines:
        if line.place is not None:
            x, y = left + line.place[1] * wide, upper + line.place[0] * tall
            axes.add_patch(Rectangle((x, y), wide, tall, fill=False, ec="black", lw=0.8))
            axes.annotate(
                str(line.mark), (x, y), (1, -1), textcoords="offset points", size=5.5, va="top", weight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
            )  # fmt: skip
    at = top + high + 0.06
    sheet.colour_bar(MARGIN + 0.2, at, PANEL - 0.4, SIGNED_OVER_PHOTOGRAPH, (-limit, limit), "of a patch (cosine)")
    sheet.text(MARGIN, at + BAR, legend, SMALL)


def _show_heads(sheet: Sheet, block: Block, top: float) -> None:
    left = MARGIN + PANEL + 0.15 + NAMES
    beside = left + BARS + 0.1
    axes = sheet.axes(left, top + 0.2, BARS, STEP * len(block.lines))
    for y, line in enumerate(block.lines):
        if line.alone:
            axes.barh(y, line.gap, height=0.6, color=ADDS if line.gap >= 0 else TAKES)
        at, texts = top + 0.2 + STEP * (y + 0.5), beside + 0.48
        sheet.text(beside + 0.42, at, signed(line.gap, 4), SMALL, va="center", ha="right")
        sheet.text(texts, at, wrapped(line.texts, PAGE - texts - MARGIN, SMALL, 2), SMALL, va="center")
    axes.axvline(0, color="0.3", lw=0.6)
    axes.set_yticks(range(len(block.lines)), labels=[wrapped(line.name, NAMES, SMALL) for line in block.lines])
    axes.set_ylim(len(block.lines) - 0.5, -0.5)
    axes.set_xlim(-1.05 * block.limit, 1.05 * block.limit)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    sheet.text(left - NAMES, top, f"{block.title}: what they add to the gap (cosine)", SMALL)


def _show_trial(sheet: Sheet, trial: Trial, texts: tuple[str, str], top: float) -> None:
    names, numbers = 1.75, 0.75
    sheet.text(MARGIN, top, wrapped(trial.title, PAGE - 2 * MARGIN, TEXT), TEXT)
    axes = sheet.axes(MARGIN + names, top + 0.2, PAGE - 2 * MARGIN - names - numbers, STRIP * len(trial.lines))
    for y, line in enumerate(trial.lines):
        for gap in line.gaps:
            colour = NEUTRAL if line.is_random else ADDS if gap > 0 else TAKES
            axes.plot([gap], [y], "o", color=colour, ms=4, alpha=0.6 if line.is_random else 1.0)
        at = top + 0.2 + STRIP * (y + 0.5)
        sheet.text(PAGE - MARGIN, at, line.outcome, SMALL, va="center", ha="right")
    axes.axvline(0, color="0.2", lw=0.8)
    axes.set_yticks(range(len(trial.lines)), labels=[line.name for line in trial.lines])
    axes.set_ylim(len(trial.lines) - 0.5, -0.5)
    axes.margins(x=0.05)
    axes.set_xticks([])
    axes.tick_params(length=0)
    _name_sides(axes, texts)


def _name_sides(axes: Axes, texts: Sequence[str]) -> None:
    for text, align, x in ((texts[1], "left", 0.0), (texts[0], "right", 1.0)):
        name = wrapped(f"“{one_line(text, LONGEST_TEXT)}” nearer", SIDE, SMALL)
        axes.annotate(name, (x, -0.03), xycoords="axes fraction", ha=align, va="top", size=SMALL, annotation_clip=False)
