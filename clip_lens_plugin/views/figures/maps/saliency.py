"""Static figures of saliency maps: the photograph, and each text's map on it from its own least to its greatest."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from PIL import Image

from clip_lens_plugin.maps.crop_geometry import Interpolation
from clip_lens_plugin.saliency.result import SaliencyMap
from clip_lens_plugin.views.drawing.colour_maps import SIGNED_OVER_PHOTOGRAPH
from clip_lens_plugin.views.drawing.crops import Box, hides_something
from clip_lens_plugin.views.drawing.layout.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.layout.sheet import (
    BAR,
    COLUMN,
    MARGIN,
    PAGE,
    SMALL,
    TEXT,
    Sheet,
    heading_height,
    line_height,
    text_height,
    wrapped,
)
from clip_lens_plugin.views.drawing.numbers import tick_label
from clip_lens_plugin.views.figures.maps.maps import (
    FADED,
    GAP,
    MOST_ACROSS,
    WIDEST,
    Cell,
    panel_in,
    show_map,
    show_photograph,
    tell_below,
)

FROM_CLEAR = ListedColormap(SIGNED_OVER_PHOTOGRAPH(np.linspace(0.5, 1.0, 128)))
"""The upper half of the colours of signed maps."""


@plainly_lettered
def saliency_figure(
    result: SaliencyMap, photograph: Image.Image, box: Box, interpolation: Interpolation, title: str
) -> Figure:
    """The photograph and the maps in lines, each map on a scale of its own."""
    maps = result.values.detach().double().cpu().numpy()
    across = min(len(maps), MOST_ACROSS)
    lines = -(-len(maps) // across)
    width = PAGE if across > 1 else COLUMN
    panel = (width - 2 * MARGIN - GAP * across) / (across + 1)
    aspect = photograph.width / photograph.height
    high = panel / min(WIDEST, max(1.0, aspect))
    above = [wrapped(text, panel, TEXT, 3) for text in result.captions]
    name = wrapped(result.name, panel, TEXT, 3)
    head, foot = max(text_height(text, TEXT) for text in [*above, name]) + 0.03, line_height(SMALL) + 0.08
    note = FADED if hides_something(box) else ""
    top = MARGIN + heading_height(title, width)
    last = top + lines * (head + high + foot)
    sheet = Sheet(width, last + BAR + 0.04 + (line_height(SMALL) + 0.03 if note else 0))
    sheet.heading(title)
    first = panel_in(sheet, Cell(MARGIN, top + head, (panel, high)), aspect)
    show_photograph(first, photograph, box)
    first.set_title(name, pad=2.5)
    for t, (text, values) in enumerate(zip(above, maps, strict=True)):
        line, column = divmod(t, across)
        left = MARGIN + (column + 1) * (panel + GAP)
        axes = panel_in(sheet, Cell(left, top + line * (head + high + foot) + head, (panel, high)), aspect)
        show_map(axes, photograph, box, _from_least(values), interpolation)
        axes.set_title(text, pad=2.5)
        tell_below(
            axes, [(f"{tick_label(values.min(), True)} to {tick_label(values.max(), True)}", SMALL, "normal", "black")]
        )
    sheet.colour_bar(
        MARGIN + 0.25, last, min(2.6, width - 0.9), FROM_CLEAR, (0.0, 1.0), "from a map's least to its greatest"
    )
    if note:
        sheet.text(MARGIN, last + BAR + 0.03, note, SMALL)
    return sheet.figure


def _from_least(values: np.ndarray) -> np.ndarray:
    """From 0 at the least to 1 at the greatest; 0 where all are the same."""
    span = np.ptp(values)
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)
