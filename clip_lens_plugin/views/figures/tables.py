"""Static figures of labelled numbers: bars, with labels shown as they are written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from clip_lens_plugin.views.drawing.colours import ADDS, SHADES, TAKES
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import MARGIN, PAGE, SMALL, TEXT, Sheet, text_height, wrapped

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
        names: of the heads, from the first layer on; of more than :data:`MOST_HEADS`, those of the greatest total
            variance are shown.
        texts: of each head, in the order picked.
        shares: of each text.
        total_variance: of each head.
    """
    chosen = sorted(sorted(range(len(names)), key=lambda i: -total_variance[i])[:MOST_HEADS])
    left, bars, step, top = 1.25, 2.3, 0.25, 0.24
    sheet = Sheet(PAGE, top + step * len(chosen) + 0.4)
    axes = sheet.axes(left, top, bars, step * len(chosen))
    beside = left + bars + 0.12
    before = np.zeros(len(chosen))
    for rank in range(max((len(shares[i]) for i in chosen), default=0)):
        share = np.array([100 * shares[i][rank] if rank < len(shares[i]) else 0.0 for i in chosen])
        colour = SHADES[rank % len(SHADES)]
        axes.barh(np.arange(len(chosen)), share, left=before, color=colour, edgecolor="0.25", lw=0.3)
        before += share
    for y, i in enumerate(chosen):
        first = "; ".join(texts[i][:2]) or "no text"
        sheet.text(beside, top + step * (y + 0.5), wrapped(first, PAGE - beside - MARGIN, SMALL), SMALL, va="center")
    axes.set_yticks(range(len(chosen)), labels=[wrapped(names[i], left - 0.15, SMALL) for i in chosen])
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the head's variance, the first text at the left (%)")
    more = f"; the {len(chosen)} of {len(names)} heads with the greatest variance" if len(chosen) < len(names) else ""
    sheet.text(beside, MARGIN, f"first two texts{more}", SMALL)
    return sheet.figure


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
    each = (PAGE - MARGIN) / across
    room = 0.42 * each
    headings = [wrapped(title, each - 2 * MARGIN, TEXT, 2) for title in titles[:panels]]
    said = f"the first {panels} of {len(titles)}" if panels < len(titles) else ""
    start = MARGIN + text_height(said, TEXT)
    above = max(text_height(heading, TEXT) for heading in headings) + 0.06
    high = 0.17 * bars
    below = 0.42
    sheet = Sheet(PAGE, start + down * (above + high + below))
    if said:
        sheet.text(MARGIN, MARGIN / 2, said)
    for i, (heading, names, numbers) in enumerate(zip(headings, labels, values, strict=False)):
        row, column = divmod(i, across)
        top = start + row * (above + high + below)
        names, numbers = names[:MOST_BARS], numbers[:MOST_BARS]
        axes = sheet.axes(column * each + room, top + above, each - room - MARGIN, high)
        axes.barh(range(len(names)), numbers, height=0.75, color=[ADDS if number >= 0 else TAKES for number in numbers])
        axes.axvline(0, color="0.3", lw=0.6)
        axes.set_yticks(range(len(names)), labels=[wrapped(name, room - 0.15, SMALL) for name in names])
        axes.set_ylim(bars - 0.5, -0.5)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(unit, size=SMALL, labelpad=1)
        sheet.text(column * each + MARGIN, top + (above - 0.06 - text_height(heading, TEXT)), heading, TEXT)
    return sheet.figure
