"""Figures of roles: layers by heads with the role of each, explained variance beside chance, growth with the pool."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter

from clip_lens_plugin.roles.result import NONE, HeadRole, HeadRoles
from clip_lens_plugin.views.drawing.colours import ADDS, LINE_STYLES, WEIGHTS
from clip_lens_plugin.views.drawing.layout.layers import HEAD_AXIS, LAYER_AXIS
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import BAR, COLUMN, MARGIN, PAGE, SMALL, Sheet, line_height, wrapped

LEFT = 0.42
"""Inches for the numbers and the name of an axis that goes up."""

CELL = 0.3
"""Inches of a row of the grid."""

MOST_BESIDE, NAMES, STEP = 16, 1.9, 0.165
"""Heads that are shown beside chance; inches of their names, and of a line."""

BAR_WIDTH, DARKEST = 1.6, 0.85
"""Inches of the colours' scale, and how far it goes along the colour map."""

GREY, FAINT = "0.45", "0.92"
"""Of what is no role: letters, and lines."""


@plainly_lettered
def roles_figure(found: HeadRoles) -> Figure:
    """Layers by heads, with the role in each cell; under it, heads of the greatest variance beside both nulls.

    The darker a cell, the more of what the texts explain is of the theme. Without a role, the theme stands in grey.

    Args:
        found: the roles.
    """
    layers = sorted({each.layer for each in found})
    beside = sorted((each for each in found if each.texts), key=lambda each: -each.variance_share)[:MOST_BESIDE]
    high = CELL * len(layers)
    under = MARGIN + high + 0.4 + BAR + 0.12
    legend = 2 * line_height(SMALL) + 0.04
    sheet = Sheet(PAGE, under + (legend + STEP * len(beside) + 0.42 if beside else 0.0))
    _grid(sheet, found, layers, high)
    if beside:
        _beside_chance(sheet, beside, len(found), under, legend)
    return sheet.figure


def _grid(sheet: Sheet, found: HeadRoles, layers: list[int], high: float) -> None:
    n_heads, wide = found.n_heads, PAGE - LEFT - MARGIN
    axes = sheet.axes(LEFT, MARGIN, wide, high)
    shade = matplotlib.colormaps[WEIGHTS]
    for each in found:
        row, has = layers.index(each.layer), each.role != NONE
        strength = DARKEST * each.mass if has else 0.0
        axes.add_patch(
            Rectangle((each.head - 0.5, row - 0.5), 1, 1, facecolor=shade(strength) if has else "w", edgecolor=FAINT)
        )
        theme = wrapped(each.theme or "–", wide / n_heads - 0.03, SMALL, 2)
        ink = GREY if not has else "w" if strength > 0.6 else "k"
        axes.text(each.head, row, theme, ha="center", va="center", size=SMALL, color=ink, linespacing=1.1)
    axes.set_xlim(-0.5, n_heads - 0.5)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_xticks(range(n_heads))
    axes.set_yticks(range(len(layers)), labels=[str(layer) for layer in layers])
    axes.set_xlabel(HEAD_AXIS)
    axes.set_ylabel(LAYER_AXIS if len(layers) > 4 else "layer")
    colours = LinearSegmentedColormap.from_list("mass", shade(np.linspace(0, DARKEST, 64)))
    sheet.colour_bar(LEFT, MARGIN + high + 0.4, BAR_WIDTH, colours, (0.0, 1.0), "mass of the theme")
    note = "Mass: how much of what the texts explain is of the theme. In grey, no role."
    sheet.text(LEFT + BAR_WIDTH + 0.15, MARGIN + high + 0.4, note, SMALL)


def _beside_chance(sheet: Sheet, shown: list[HeadRole], n: int, top: float, legend: float) -> None:
    some = (
        f"The {len(shown)} of {n} heads that vary most" if len(shown) < n else "All heads, that of most variance first"
    )
    sheet.text(MARGIN, top, f"{some}: what their texts explain, beside chance", SMALL)
    signs = (("● the pool", ADDS), ("◇ mean of pools with the same covariance", "0.25"), ("│ of turned pools", "0.25"))
    left = MARGIN
    for sign, colour in signs:
        sheet.text(left, top + line_height(SMALL), sign, SMALL, color=colour)
        left += 2.1 if "covariance" in sign else 0.75
    axes = sheet.axes(NAMES, top + legend, PAGE - NAMES - 0.15, STEP * len(shown))
    for row, each in enumerate(shown):
        has = each.role != NONE
        axes.plot([0, 1], [row, row], color=FAINT, lw=0.6, zorder=1)
        axes.plot([each.turned.mean], [row], marker="|", ms=7, mew=1.1, color="0.25", zorder=2)
        axes.plot([each.mirrored.mean], [row], marker="D", ms=3.6, mfc="w", mec="0.25", mew=0.8, zorder=3)
        axes.plot([each.explained], [row], marker="o", ms=4.5, color=ADDS if has else "0.6", zorder=4)
    names = [wrapped(f"layer {each.layer}, head {each.head}: {each.role}", NAMES - 0.1, SMALL) for each in shown]
    axes.set_yticks(range(len(shown)), labels=names)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the head's variance")
    axes.tick_params(axis="y", length=0)


@plainly_lettered
def role_growth_figure(found: pd.DataFrame) -> Figure:
    """Two panels over the number of texts: heads with a role, and explained variance; a point for each drawn pool."""
    panels = (("share_with_role", "heads with a role (%)"), ("explained", "explained variance (%)"))
    down, high = 1.45, 1.3
    top = MARGIN + line_height(SMALL) + 0.08
    sheet = Sheet(COLUMN, top + 2 * down + 0.22)
    styles = {"own": LINE_STYLES[0], "turned": (GREY, "s")}
    for meaning, left, name in (("● drawn texts", MARGIN, "own"), ("■ the same, turned at random", 1.3, "turned")):
        sheet.text(left, MARGIN, meaning, SMALL, color=styles[name][0])
    first: Axes | None = None
    for at, (column, label) in enumerate(panels):
        axes = sheet.axes(0.5, top + at * down, COLUMN - 0.5 - 0.15, high, sharex=first)
        first = first or axes
        for name, (colour, marker) in styles.items():
            own = found[found["pool"] == name]
            sizes = sorted(set(own["texts"]))
            means = [100 * float(np.mean(own[own["texts"] == size][column])) for size in sizes]
            axes.plot(sizes, means, color=colour, lw=1.2, zorder=2)
            axes.plot(own["texts"], 100 * own[column], ls="", marker=marker, ms=3, color=colour, alpha=0.6, zorder=3)
        axes.set_xscale("log")
        axes.set_ylim(-4, 104)
        axes.set_ylabel(label)
        axes.grid(axis="y", color="0.9")
        every = sorted(set(found["texts"]))
        axes.set_xticks(every, labels=[f"{size:,}" for size in every])
        axes.tick_params(labelbottom=at == len(panels) - 1)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)
    assert first is not None
    sheet.figure.supxlabel("number of texts", size=SMALL + 1, y=0.04 / sheet.height, va="bottom", x=0.55)
    return sheet.figure
