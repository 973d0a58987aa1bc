"""Figures of segmentation scores: what each kind of map gives with its interval, and a grid of overlays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clip_lens_plugin.segmentation.overlays import Overlay
from clip_lens_plugin.segmentation.result import SegmentationScores, per_cent
from clip_lens_plugin.views.drawing.colours import ADDS
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import MARGIN, PAGE, SMALL, Sheet, line_height, text_height, wrapped
from clip_lens_plugin.views.figures.maps.maps import Cell, panel_in, show_map, show_photograph
from clip_lens_plugin.views.words.segmentation import LEADING, precision_of

NAMES, STEP = 2.1, 0.15
"""Inches for the names of kinds, and from one to the next."""

ACROSS, MOST_LINES = 7, 3
"""Maps beside a photograph, of which more go on in the next line; and lines, after which the page has the rest."""

HIGHEST = 9.9
"""Inches; no more images are drawn than fit, but one at least."""

GAP = 0.06
WHOLE = (0.0, 0.0, 1.0, 1.0)

DRAWN = ("average_precision", "miou", "named_higher")
"""Figures that have a panel, where there are any."""


@plainly_lettered
def segmentation_figure(scores: SegmentationScores, shown: Sequence[str]) -> Figure:
    """Figures of each kind with 95 % intervals, over the maps of the first images.

    Args:
        scores: of :func:`~clip_lens_plugin.segmentation_scores`.
        shown: labels of the kinds whose maps are drawn.
    """
    shown = shown[: MOST_LINES * ACROSS]
    lines = -(-len(shown) // ACROSS)
    panel = (PAGE - 2 * MARGIN - GAP * ACROSS) / (ACROSS + 1)
    titles = [wrapped(scores.kinds[label], panel, SMALL, 4) for label in shown]
    above = max((text_height(title, SMALL) for title in titles), default=0.0) + 0.04
    band = above + panel + line_height(SMALL) + 0.06
    top = MARGIN + STEP * len(scores.kinds) + 0.55
    overlays = scores.overlays[: max(1, int((HIGHEST - MARGIN - top) / (lines * band)))]
    sheet = Sheet(PAGE, top + len(overlays) * lines * band + MARGIN)
    _intervals(sheet, scores)
    for overlay in overlays:
        _panels(sheet, top, scores, overlay, dict(zip(shown, titles, strict=True)), panel, above, band)
        top += lines * band
    return sheet.figure


def _intervals(sheet: Sheet, scores: SegmentationScores) -> None:
    drawn = [name for name in DRAWN if name in scores.figures]
    wide = (PAGE - NAMES - MARGIN - 0.15 * (len(drawn) - 1)) / len(drawn)
    high = STEP * len(scores.kinds)
    for i, figure in enumerate(drawn):
        axes = sheet.axes(NAMES + i * (wide + 0.15), MARGIN, wide, high)
        best = scores.best(figure)
        for y, label in enumerate(scores.kinds):
            found = scores.estimates[label][figure]
            colour = ADDS if label == scores.reference else "0.35"
            axes.plot([100 * found.low, 100 * found.high], [y, y], color=colour, lw=1)
            axes.plot([100 * found.value], [y], marker="o", color=colour, ms=5 if label in best else 3, ls="")
        if figure == "named_higher":
            axes.axvline(50, color="0.6", lw=0.6, ls="--")
        named = [wrapped(title, NAMES - 0.15, SMALL) for title in scores.kinds.values()]
        axes.set_yticks(range(len(named)), labels=named if i == 0 else [""] * len(named))
        axes.set_ylim(len(named) - 0.5, -0.5)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(f"{scores.figures[figure]} (%), 95 % interval", size=SMALL)


def _panels(
    sheet: Sheet,
    top: float,
    scores: SegmentationScores,
    overlay: Overlay,
    titles: dict[str, str],
    panel: float,
    above: float,
    band: float,
) -> None:
    aspect = overlay.picture.width / overlay.picture.height
    cell = Cell(MARGIN, top + above, (panel, panel))
    axes = panel_in(sheet, cell, aspect)
    show_photograph(axes, overlay.picture, WHOLE)
    _outline(axes, overlay.mask)
    sheet.text(MARGIN, top + above + panel + 0.03, wrapped(overlay.text, panel, SMALL), SMALL)
    values = {label: precision_of(scores, label, overlay) for label in titles}
    most = max((value for value in values.values() if not np.isnan(value)), default=np.nan)
    for i, (label, title) in enumerate(titles.items()):
        line, column = divmod(i, ACROSS)
        left, high = MARGIN + (column + 1) * (panel + GAP), top + line * band
        sheet.text(left, high + above - 0.04 - text_height(title, SMALL), title, SMALL)
        axes = panel_in(sheet, Cell(left, high + above, (panel, panel)), aspect)
        show_map(axes, overlay.picture, overlay.box, overlay.maps[label], "nearest")
        _outline(axes, overlay.mask)
        weight = "bold" if values[label] == most else "normal"
        caption = f"AP {per_cent(LEADING, values[label])}"
        sheet.text(left, high + above + panel + 0.03, caption, SMALL, weight=weight)


def _outline(axes: Axes, mask: np.ndarray) -> None:
    if mask.any() and not mask.all():
        for colour, width in (("black", 1.8), ("white", 0.8)):
            axes.contour(mask.astype(float), levels=[0.5], colors=colour, linewidths=width)
