"""Cards stand in order, each text over its own images, and neighbours beside the picture asked about."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from PIL import Image

from clip_lens_plugin.views.gallery import head_gallery_view, neighbours_view
from tests.views.conftest import EVIL

PICTURES = {0: Image.new("RGB", (32, 32), "red"), 1: Image.new("RGB", (32, 32), "blue")}
NAMES = {0: EVIL, 1: "plain.png"}


def test_cards_stand_by_layer_and_by_variance(spans, top_images):
    body = head_gallery_view(list(spans), top_images, PICTURES, NAMES).body
    assert re.findall(r"<h4>(.*?)</h4>", body) == ["Layer 1, head 1", "Layer 1, head 0", "Layer 0, head 0"]
    assert re.findall(r"(\d+\.\d) %</span>", body) == ["25.0", "50.0", "75.0", "87.5"]


def test_each_text_has_its_images_most_and_least(spans, top_images):
    body = head_gallery_view(list(spans), top_images, PICTURES, NAMES).body
    shown = re.findall(r'class="cl-thumb cl-g\w+-(\d+)"[^>]*title="([^"]*)"', body)
    assert [(int(row), title.rsplit(": ")[1]) for row, title in shown] == [
        (0, "+0.5000 cosine against the mean"),
        (1, "+0.2500 cosine against the mean"),
        (0, "-0.1250 cosine against the mean"),
    ]
    assert body.count("background-image") == 2


def test_names_and_texts_are_text(spans, top_images):
    view = head_gallery_view(list(spans), top_images, PICTURES, NAMES)
    assert "<img src=x" not in view.body
    assert "<script>" not in view.body
    assert len([axes for axes in view.figure().axes if axes.images]) == 3


def test_a_missing_picture_is_an_error(spans, top_images):
    with pytest.raises(KeyError):
        head_gallery_view(list(spans), top_images, {0: PICTURES[0]}, NAMES)


def test_neighbours_stand_in_their_order():
    nearest = pd.DataFrame({"place": [2, 1], "row": [0, 1], "similarity": [0.5, 0.75]})
    view = neighbours_view(PICTURES[0], nearest, PICTURES, NAMES, heads=[(2, 3)], query_name=EVIL)
    assert re.findall(r"similarity ([+-]\d\.\d+)", view.body) == ["+0.750", "+0.500"]
    assert "<img src=x" not in view.html()
    assert "layer 2, head 3" in view.title
    assert [axes.get_title() for axes in view.figure().axes][1:] == ["+0.750", "+0.500"]
