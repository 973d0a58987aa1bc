"""Figures of a spurious cue: effects of heads as grids, and groups' accuracy beside what chance gives."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from clip_lens_plugin.groups.effects import GroupEffects
from clip_lens_plugin.groups.spurious.accuracy import Stage
from clip_lens_plugin.groups.spurious.result import SpuriousHeads
from clip_lens_plugin.views.drawing.colours import LINE_STYLES
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import MARGIN, PAGE, SMALL, Sheet, line_height, wrapped
from clip_lens_plugin.views.drawing.numbers import places_of_two_digits
from clip_lens_plugin.views.figures.summaries import LEFT, draw_grid, grid_height, grid_width

MARKS: dict[Stage, tuple[str, str, str]] = {
    "before": ("0.35", "o", "nothing removed"),
    "direct": (LINE_STYLES[0][0], "s", "direct effect"),
    "class_token": (LINE_STYLES[2][0], "^", "class token alone"),
    "total": (LINE_STYLES[1][0], "D", "total effect"),
    "ceiling": (LINE_STYLES[3][0], "*", "texts without the cue"),
}
"""Colour, marker and name of each stage."""

HIGH = 2.1
"""Inches of the chart of accuracies."""

CHANCE = {"random": "worst group,\nrandom heads", "permuted": "worst group,\npermuted cues"}


@plainly_lettered
def group_effects_figure(found: GroupEffects) -> Figure:
    """Layers by heads: the core effect over the cue effect, each with a scale of its own."""
    grids = {"core effect (cosine)": found.heads("core"), "cue effect (cosine)": found.heads("cue")}
    high = [grid_height(grid) + MARGIN for grid in grids.values()]
    sheet = Sheet(grid_width(found.heads()), MARGIN + sum(high))
    top = MARGIN
    for (label, grid), step in zip(grids.items(), high, strict=True):
        draw_grid(sheet, top, grid, label, places_of_two_digits(float(np.abs(grid).max(initial=0.0))))
        top += step
    return sheet.figure


@plainly_lettered
def spurious_heads_figure(found: SpuriousHeads) -> Figure:
    """Accuracy of each group by stage, random heads and permuted cues beside the worst; under it the cue effects.

    The heads that were removed are framed in the grid.
    """
    grid = found.effects.heads("cue")
    legend = MARGIN + line_height(SMALL) + 0.08
    names = 3 * line_height(SMALL) + 0.18
    sheet = Sheet(PAGE, legend + HIGH + names + grid_height(grid) + MARGIN)
    axes = sheet.axes(LEFT, legend, PAGE - LEFT - MARGIN, HIGH)
    _accuracies(axes, found)
    _legend(sheet, found)
    places = places_of_two_digits(float(np.abs(grid).max(initial=0.0)))
    label = "cue effect (cosine); removed heads are framed"
    cells = draw_grid(sheet, legend + HIGH + names, grid, label, places)
    for layer, head in found.heads:
        cells.add_patch(Rectangle((head - 0.47, layer - 0.45), 0.94, 0.9, fill=False, ec="k", lw=1.4))
    return sheet.figure


def _accuracies(axes: Axes, found: SpuriousHeads) -> None:
    columns = ["worst group", "average", *found.groups]
    spread = 0.6 / max(1, len(found.shares) - 1)
    for at, each in enumerate(found.shares):
        colour, marker, _ = MARKS[each.stage]
        for place, share in enumerate((each.worst, each.average, *each.groups)):
            x = place + spread * (at - (len(found.shares) - 1) / 2)
            axes.plot([x, x], [100 * share.low, 100 * share.high], color=colour, alpha=0.4, lw=3, solid_capstyle="butt")
            axes.plot([x], [100 * share.value], color=colour, marker=marker, ms=5, ls="")
    controls = {name: control for name in CHANCE if len((control := getattr(found, name)).worst)}
    rng = np.random.default_rng(0)
    for at, control in enumerate(controls.values()):
        x = -1.0 - at + rng.uniform(-0.22, 0.22, len(control.worst))
        axes.plot(x, 100 * control.worst, color="0.5", marker=".", ms=3, ls="", alpha=0.6)
    ticks = [*(-1.0 - at for at in range(len(controls))), *range(len(columns))]
    labels = [*(CHANCE[name] for name in controls), *(wrapped(name, 0.75, SMALL, 3) for name in columns)]
    axes.set_xticks(ticks, labels=labels, size=SMALL)
    axes.set_xlim(-len(controls) - 0.6, len(columns) - 0.4)
    axes.axvline(-0.5, color="0.8", lw=0.8)
    axes.axvline(1.5, color="0.8", lw=0.8)
    lows = [100 * share.low for each in found.shares for share in each.groups]
    lows += [100 * float(control.worst.min()) for control in controls.values()]
    axes.set_ylim(max(-3.0, min(lows) - 5), 103)
    axes.set_ylabel("right answers (%), 95 % interval")
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)


def _legend(sheet: Sheet, found: SpuriousHeads) -> None:
    left = LEFT
    for each in found.shares:
        colour, marker, name = MARKS[each.stage]
        axes = sheet.axes(left, MARGIN, 0.12, line_height(SMALL))
        axes.plot([0], [0], color=colour, marker=marker, ms=5)
        axes.axis("off")
        sheet.text(left + 0.16, MARGIN, name, SMALL)
        left += 0.16 + 0.062 * len(name) + 0.22
