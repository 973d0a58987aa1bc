"""Names and texts in pages and figures are letters: no mathematics, no markup, no control characters."""

from __future__ import annotations

import io
import re

import matplotlib
import pandas as pd
import pytest
import torch
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from clip_lens_plugin.maps.patch_text import HeadTextScores, PatchTextMap
from clip_lens_plugin.views.drawing.figure_files import save_figure
from clip_lens_plugin.views.drawing.view import View
from clip_lens_plugin.views.figures.summaries import ablation_figure
from clip_lens_plugin.views.figures.tables import bars_figure, heads_figure
from clip_lens_plugin.views.gallery import neighbours_view
from clip_lens_plugin.views.maps.patch_text import head_text_view, patch_text_view
from clip_lens_plugin.views.report.summaries import ablation_view
from clip_lens_plugin.views.tables import as_text

NASTY = "$\\frac{a}$ \x1b[2J\u202e\ud800 <b>&amp;</script>"
SHOWN = r"$\frac{a}$ \x1b[2J\u202e\ud800 <b>&amp;</script>"
TABLED = NASTY.replace("\ud800", "")
"""Without what a table of pandas cannot hold."""

PICTURE = Image.new("RGB", (8, 8))


def maps() -> PatchTextMap:
    return PatchTextMap(torch.ones(1, 1, 2, 2), torch.zeros(1, 1), (NASTY,))


def curve() -> pd.DataFrame:
    row = {"question": TABLED, "kind": "attention", "accuracy": 0.5, "low": 0.4, "high": 0.6}
    return pd.DataFrame([{**row, "ablated": str(n), "layers": n} for n in range(3)])


FIGURES = {
    "maps": lambda: patch_text_view(maps(), [PICTURE], names=[NASTY]).figure(),
    "curve": lambda: ablation_figure(curve()),
    "bars": lambda: bars_figure([NASTY], [[NASTY]], [[1.0]], "unit"),
    "heads": lambda: heads_figure(["layer 0"], [[NASTY]], [[1.0]], [1.0]),
    "neighbours": lambda: neighbours_view(
        PICTURE,
        pd.DataFrame({"place": [1], "row": [0], "similarity": [0.5]}),
        {0: PICTURE},
        {0: NASTY},
        heads=[(0, 0)],
        query_name=NASTY,
    ).figure(),
}


@pytest.fixture(params=FIGURES)
def figure(request) -> Figure:
    return FIGURES[request.param]()


def test_a_figure_shows_letters(figure, tmp_path) -> None:
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        save_figure(figure, tmp_path / "figure.svg")
    written = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "\x1b" not in written
    assert "\u202e" not in written
    assert r"$\frac{a}$" in written
    figure.savefig(io.BytesIO())
    assert not any(text.get_parse_math() or text.get_usetex() for text in figure.findobj(Text) if text.get_text())


def test_latex_sets_nothing(tmp_path) -> None:
    with matplotlib.rc_context({"text.usetex": True}):
        made = bars_figure(["title"], [["label"]], [[1.0]], "unit")
        save_figure(made, tmp_path / "figure.png")
    assert not any(text.get_usetex() for text in made.findobj(Text))


def test_a_page_shows_letters(tmp_path) -> None:
    scores = HeadTextScores(torch.ones(1, 1, 5, 1), torch.ones(1), (NASTY,), (2, 2))
    views = {
        "explore": head_text_view(scores, PICTURE, name=NASTY),
        "maps": patch_text_view(maps(), [PICTURE], names=[NASTY], title=NASTY),
        "curve": ablation_view(curve()),
        "title": View(NASTY, Markup(), lambda: Figure()),
    }
    for name, view in views.items():
        page = view.save(tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert r"\x1b[2J\u202e" in page.replace("\\\\", "\\"), name
        assert not re.search("[\x1b\u202e]", page), name
        assert "<b>" not in page.replace("element('<b>", ""), name


def test_circuitsvis_gets_letters() -> None:
    assert as_text(NASTY) == SHOWN.replace("<", "<\u2060").replace("&", "&\u2060")
