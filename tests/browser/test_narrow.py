"""On a phone, tables scroll inside themselves and say so, words stay whole, and charts scale."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clip_lens_plugin.views.drawing.view import View, page
from clip_lens_plugin.views.report.summaries import layer_view, table

pytestmark = pytest.mark.browser

WIDTH = 400

BROKEN = """() => [...document.querySelectorAll("th, td")].flatMap((cell) => {
  const text = cell.firstChild;
  if (!text) return [];
  return [...text.data.matchAll(/\\S+/g)].filter((word) => {
    const range = document.createRange();
    range.setStart(text, word.index);
    range.setEnd(text, word.index + word[0].length);
    return range.getClientRects().length > 1;
  }).map((word) => word[0]);
})"""


@pytest.fixture
def opened(tmp_path, open_offline):
    rows = [(part, layer, 0.1, 0.02) for part in ("heads", "mlp", "attn_bias") for layer in range(12)]
    rows += [("embed", None, 0.1, 0.02), ("pool_bias", None, 0.1, 0.02)]
    layers = pd.DataFrame(rows, columns=["part", "layer", "share_mean", "share_std"]).astype({"layer": "Int64"})
    files = table(("file", "reason"), [("COCO_val2014_000000000042_of_a_long_name.jpg", "cut off in the middle of it")])
    view = layer_view(layers)
    (tmp_path / "page.html").write_text(page("narrow", [view, View("Files", files, view.figure)]))
    return open_offline(tmp_path / "page.html", WIDTH)


def edge(opened) -> float:
    """Brightness of the right edge of the first table."""
    box = opened.locator(".cl-wide:has(table)").first.bounding_box()
    strip = {"x": box["x"] + box["width"] - 5, "y": box["y"] + box["height"] / 2 - 20, "width": 5, "height": 40}
    return float(np.asarray(Image.open(io.BytesIO(opened.screenshot(clip=strip))).convert("L"), dtype=float).mean())


def test_tables_scroll_inside_and_words_stay_whole(opened):
    assert opened.evaluate("document.documentElement.scrollWidth") <= WIDTH
    assert opened.evaluate(BROKEN) == []
    scrolls = "nodes => nodes.map((node) => node.scrollWidth > node.clientWidth + 10)"
    assert opened.eval_on_selector_all(".cl-wide:has(table)", scrolls) == [True, True]


def test_a_shadow_says_that_there_is_more(opened):
    there = edge(opened)
    opened.eval_on_selector(".cl-wide:has(table)", "node => node.scrollTo(node.scrollWidth, 0)")
    opened.wait_for_timeout(100)
    assert there < edge(opened) - 20


def test_charts_are_as_wide_as_the_screen(opened):
    picture = opened.locator(".cl-figure img").bounding_box()
    assert picture["x"] >= 0
    assert WIDTH - 60 < picture["x"] + picture["width"] <= WIDTH
