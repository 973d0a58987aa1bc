"""Figures of patching: layers by heads, and estimates against exact values."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clip_lens_plugin.patching.attributed import AttributionPatching
from clip_lens_plugin.views.drawing.colours import ADDS, TAKES
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import MARGIN, PAGE, SMALL, TEXT, Sheet, line_height, wrapped
from clip_lens_plugin.views.drawing.numbers import places_of_two_digits, signed
from clip_lens_plugin.views.figures.summaries import draw_grid, grid_height, grid_width
from clip_lens_plugin.views.report.charts import records

DRAWN = "0.4"
"""Colour of those drawn at random."""

SQUARE = 2.4
"""Inches of a side of the plot of estimates."""

BESIDE = 0.62
"""Inches for its numbers and the name of its axis."""

MOST_NAMED = 10
"""Of those with the wrong sign, how many have a line of their own."""


@plainly_lettered
def head_patching_figure(effects: pd.DataFrame) -> Figure:
    """Layers by heads, coloured by effect_mean.

    Args:
        effects: columns layer, head, effect_mean.
    """
    grid = effects.pivot(index="layer", columns="head", values="effect_mean").to_numpy()
    sheet = Sheet(grid_width(grid), MARGIN + grid_height(grid))
    draw_grid(sheet, MARGIN, grid, "mean change of the metric", _places(grid))
    return sheet.figure


@plainly_lettered
def attribution_patching_figure(found: AttributionPatching) -> Figure:
    """Estimates against exact values, means over the pairs, with what disagrees; of heads, the grid of all estimates.

    A cross marks the wrong sign: orange points are the greatest estimates, grey ones were drawn at random.
    """
    grid = found.estimates.mean(0).numpy() if found.kind == "heads" else None
    under = MARGIN + SQUARE + 0.55
    sheet = Sheet(PAGE, under + (0.0 if grid is None else grid_height(grid)))
    rows = records(found.checks())
    _scatter(sheet.axes(BESIDE, MARGIN, SQUARE, SQUARE), rows)
    _numbers(sheet, found, rows)
    if grid is not None:
        axes = draw_grid(sheet, under, grid, "mean estimate, a cross where its sign is wrong", _places(grid))
        for layer, head in found.wrong_sign:
            axes.plot([head - 0.36], [layer], marker="x", ms=5, mew=1.4, color=TAKES)
    return sheet.figure


def _scatter(axes: Axes, rows: list[dict]) -> None:
    limit = 1.1 * max([abs(row[name]) for row in rows for name in ("estimate", "exact")]) or 1.0
    axes.plot([-limit, limit], [-limit, limit], color="0.8", lw=0.8, zorder=1)
    axes.axhline(0, color="0.6", lw=0.6, zorder=1)
    axes.axvline(0, color="0.6", lw=0.6, zorder=1)
    for row in sorted(rows, key=lambda row: row["wrong_sign"]):
        wrong = row["wrong_sign"]
        colour = TAKES if wrong else ADDS if row["chosen"] == "greatest" else DRAWN
        axes.plot(
            [row["estimate"]], [row["exact"]], marker="x" if wrong else "o", ms=5 if wrong else 3.5, color=colour, ls=""
        )
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5, symmetric=True))
    axes.set_xlabel("estimated change of the metric")
    axes.set_ylabel("exact change")


def _numbers(sheet: Sheet, found: AttributionPatching, rows: list[dict]) -> None:
    """What the plot shows, in lines beside it."""
    left = BESIDE + SQUARE + 0.25
    wide = PAGE - left - MARGIN
    greatest = sum(row["chosen"] == "greatest" for row in rows)
    count = len(rows) - greatest
    places = _places(np.array([row["exact"] for row in rows]))
    by_name = {found.name(row): row for row in rows}
    one = found.kind[:-1]
    wrong = [found.name({"layer": layer, one: number}) for layer, number in found.wrong_sign]
    lines = [
        (f"● {greatest} of the greatest estimates", ADDS),
        (f"● {count} drawn at random", DRAWN),
        (f"✕ of these, {len(wrong)} of the wrong sign", TAKES),
        (f"correlation over these and {len(found.estimates):,} pairs: {_number(found.correlation)}", "k"),
        (f"of those drawn at random: {_number(found.random_correlation)}", "k"),
    ]
    lines += [
        (
            f"{name}: estimate {signed(by_name[name]['estimate'], places + 1)}, "
            f"exact {signed(by_name[name]['exact'], places + 1)}",
            TAKES,
        )
        for name in wrong[:MOST_NAMED]
    ]
    lines += [(f"and {len(wrong) - MOST_NAMED} more", TAKES)] if len(wrong) > MOST_NAMED else []
    for at, (line, colour) in enumerate(lines):
        top = MARGIN + at * line_height(TEXT)
        sheet.text(left, top, wrapped(line, wide, SMALL), SMALL, color=colour)


def _number(correlation: float) -> str:
    return "unknown" if np.isnan(correlation) else signed(correlation, 3).lstrip("+")


def _places(values: np.ndarray) -> int:
    return places_of_two_digits(float(np.abs(values).max(initial=0.0)))
