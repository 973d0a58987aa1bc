"""Figures as pictures and files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from clip_lens_plugin.files.whole import whole_files
from clip_lens_plugin.shown import PICTURES
from clip_lens_plugin.views.drawing.layout.lettering import plain_lettering

DPI = 150
"""Of figures as pictures: as wide as a paper's page they fill a page of views."""

SAME_EACH_TIME = {
    ".png": {"Software": None},
    ".svg": {"Creator": None, "Date": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
"""What matplotlib would note of itself and of the day, left out."""

EMBEDDED: dict[Any, Any] = {"svg.hashsalt": "clip-lens", "pdf.fonttype": 42}
"""Elements of an SVG are named at random but for the salt; fonts of a PDF are embedded as TrueType."""


def figure_png(figure: Figure, dpi: int = DPI) -> bytes:
    """PNG on white, without matplotlib's note of its own version and address."""
    buffer = io.BytesIO()
    with plain_lettering():
        figure.set_dpi(dpi)
        figure.set_facecolor("white")
        # As savefig does, which draws everything twice.
        FigureCanvasAgg(figure).print_png(buffer, metadata=SAME_EACH_TIME[".png"])
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a .png, .svg or .pdf; the same figure gives the same bytes, without matplotlib's version and the date.

    Raises:
        ValueError: for another suffix.
    """
    suffix = Path(path).suffix
    if suffix not in PICTURES:
        raise ValueError(f"A figure is saved as one of {' '.join(PICTURES)}, got {path}.")
    with plain_lettering(), matplotlib.rc_context(EMBEDDED), whole_files() as beside:
        figure.savefig(beside(path), dpi=DPI, facecolor="white", metadata=SAME_EACH_TIME[suffix])
