"""A view shows itself in a notebook, saves as page and picture, and escapes what stands around it."""

from __future__ import annotations

import base64
import io
import json
import re
from functools import partial

import pytest
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from clip_lens_plugin.views.drawing import scripts
from clip_lens_plugin.views.drawing.view import View, drawn, page, static
from tests.views.conftest import EVIL


def figure() -> Figure:
    made = Figure(figsize=(2, 1))
    made.add_subplot().plot([0, 1])
    return made


@pytest.fixture
def view() -> View:
    return View(EVIL, drawn("nothing", {"label": EVIL}, figure, EVIL), figure)


def test_it_saves_as_page_and_picture(view, tmp_path):
    assert view.save(tmp_path / "a.html").read_text() == page(EVIL, [view])
    assert Image.open(view.save(tmp_path / "a.png")).size == (300, 150)
    assert "<svg" in view.save(tmp_path / "a.svg").read_text()
    assert view.save(tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    for suffix in (".html", ".png", ".svg", ".pdf"):
        again = view.save(tmp_path / f"b{suffix}").read_bytes()
        assert again == (tmp_path / f"a{suffix}").read_bytes()
    with pytest.raises(ValueError, match=r"\.html \.png \.svg \.pdf, got .*a\.eps"):
        view.save(tmp_path / "a.eps")


def test_a_notebook_gets_html_and_a_picture(view):
    bundle = view._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).size == (300, 150)
    assert bundle["text/html"] == view._repr_html_() == scripts.style() + scripts.runtime() + view.html()


def test_what_stands_around_is_escaped(view):
    for text in (view.html(), view._repr_html_(), page(EVIL, [view]), drawn("x", {}, figure, "x", on_demand=EVIL)):
        assert "<img src=x" not in text
    assert 'data-on-demand="&lt;img' in drawn("x", {}, figure, "x", on_demand=EVIL)
    assert "<img src=x" not in static(figure, EVIL)


def test_what_is_drawn_has_its_data_and_its_static_picture(view):
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', view.body)
    assert json.loads(data) == {"label": EVIL}
    (picture,) = re.findall(r'<img class="cl-static"[^>]*src="data:image/png;base64,([^"]*)"', view.body)
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (300, 150)


def test_a_page_holds_style_and_scripts_once(view):
    several = page("three", [view, view, View("c", Markup(), figure, with_circuitsvis=True)])
    assert several.count(scripts.runtime_source()) == 1
    assert several.count(f'id="{scripts.CIRCUITSVIS_ID}"') == 1
    assert several.count("Content-Security-Policy") == 1
    assert f'id="{scripts.CIRCUITSVIS_ID}"' not in page("one", [view])
    with pytest.raises(ValueError, match="at least one view"):
        page("none", [])


def test_a_notebook_holds_circuitsvis_once(monkeypatch):
    monkeypatch.setattr(scripts, "_cell_with_circuitsvis", [])
    cells: list[str | None] = []
    monkeypatch.setattr(scripts, "_running_cell", lambda: cells[-1])
    needs = View("c", Markup(), figure, with_circuitsvis=True)
    held = partial(lambda view: scripts.CIRCUITSVIS_ID in view._repr_html_().split("</script>", 1)[1], needs)
    found = []
    for cell in ("a", "b", "a"):
        cells.append(cell)
        found.append(held())
    assert found == [True, False, True]
    cells.append(None)
    assert held()
