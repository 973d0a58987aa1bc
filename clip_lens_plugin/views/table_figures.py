"""Static figures of labelled numbers: bars, with labels shown as they are written."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.lettering import plainly_lettered

COLOURS = ("#b35806", "#f1a340", "#fee0b6", "#d8daeb", "#998ec3", "#542788")
MOST_OF_NAME = 40
MOST_HEADS = 24
MOST_PANELS = 12
MOST_BARS = 20
"""A picture larger than this is not read; the page holds the rest."""


@plainly_lettered
def heads_figure(
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    shares: Sequence[Sequence[float]],
    total_variance: Sequence[float],
) -> Figure:
    """One bar per head: the shares of its variance that its texts explain, side by side, with its first two texts.

    Args:
        names: of the heads; of more than :data:`MOST_HEADS`, those of the greatest total variance are shown.
        texts: of each head, in the order picked.
        shares: of each text.
        total_variance: of each head.
    """
    chosen = sorted(range(len(names)), key=lambda i: -total_variance[i])[:MOST_HEADS]
    figure = Figure(figsize=(11, 1.0 + 0.42 * len(chosen)), layout="constrained")
    axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.15))
    for y, i in enumerate(chosen):
        left = 0.0
        for rank, share in enumerate(shares[i]):
            axes.barh(y, 100 * share, left=100 * left, color=COLOURS[rank % len(COLOURS)], edgecolor="0.25", lw=0.4)
            left += share
        first = "; ".join(one_line(text, 46) for text in texts[i][:2]) or "no text"
        beside.text(0, y, first, va="center", fontsize=9)
    axes.set_yticks(range(len(chosen)), labels=[one_line(names[i], MOST_OF_NAME) for i in chosen])
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the head's variance, text by text (%)")
    beside.set_axis_off()
    more = f", {len(chosen)} of {len(names)} heads" if len(chosen) < len(names) else ""
    beside.set_title(f"first two texts (greatest variance on top{more})", fontsize=10, loc="left")
    return figure


@plainly_lettered
def bars_figure(
    titles: Sequence[str], labels: Sequence[Sequence[str]], values: Sequence[Sequence[float]], unit: str
) -> Figure:
    """One panel per title, with one bar per label.

    Args:
        titles: of the panels; the first :data:`MOST_PANELS` are shown.
        labels: of each panel's bars; the first :data:`MOST_BARS` are shown.
        values: of the bars.
        unit: what the values are.
    """
    panels = min(MOST_PANELS, len(titles))
    across = min(2, panels)
    down = -(-panels // across)
    bars = min(MOST_BARS, max(len(each) for each in labels))
    figure = Figure(figsize=(1 + 5.6 * across, 0.5 + down * (0.85 + 0.26 * bars)), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[panels:]:
        axes.set_axis_off()
    for axes, title, names, numbers in zip(grid, titles, labels, values, strict=False):
        names, numbers = names[:MOST_BARS], numbers[:MOST_BARS]
        colours = [COLOURS[0] if number >= 0 else COLOURS[-1] for number in numbers]
        axes.barh(range(len(names)), numbers, color=colours)
        axes.axvline(0, color="0.3", lw=0.8)
        axes.set_yticks(range(len(names)), labels=[one_line(name, 40) for name in names], fontsize=9)
        axes.invert_yaxis()
        axes.set_xlabel(unit, fontsize=9)
        axes.set_title(one_line(title, 52), fontsize=10)
    if panels < len(titles):
        figure.suptitle(f"the first {panels} of {len(titles)}", fontsize=10)
    return figure
