"""The page: it opens offline, escapes what it is given, and shows the numbers of the tables."""

from __future__ import annotations

import base64
import html
import re

import pandas as pd
import pytest
import torch
from PIL import Image

from clip_lens_plugin.report import Heatmap, Report
from clip_lens_plugin.views.html import render

EVIL = "<img src=x onerror=alert(1)>.png"


@pytest.fixture
def report() -> Report:
    layers = [("embed", None, 0.1, 0.01), ("heads", 0, 0.5, 0.02), ("attn_bias", 0, 0.05, 0.0)]
    layers += [("mlp", 0, 0.3, 0.03), ("ln_bias", None, 0.05, 0.0)]
    share = ["share_mean", "share_std"]
    span = [(0, 0, 0.004, 1, f"{EVIL} text", 0.75), (0, 0, 0.004, 2, "another", 0.875)]
    top = [(0, 0, 1, f"{EVIL} text", 1, 1, "plain.png", 0.25), (0, 0, 1, f"{EVIL} text", 2, 0, EVIL, 0.125)]
    curve = [
        ("nothing", "base", 0, 0.8125),
        ("attention 0", "attention", 1, 0.3125),
        ("all MLPs", "mlps", 1, 0.75),
    ]
    ablation = pd.DataFrame(curve, columns=["ablated", "kind", "layers", "accuracy"])
    return Report(
        model_name="model <b>",
        images_from="two images",
        pool_name="texts & more",
        pool_size=1234,
        names=(EVIL, "plain.png"),
        completeness_error=2e-7,
        layers=pd.DataFrame(layers, columns=["part", "layer", *share]).astype({"layer": "Int64"}),
        heads=pd.DataFrame([(0, 0, 0.6, 0.1), (0, 1, -0.1, 0.2)], columns=["layer", "head", *share]),
        text_span=pd.DataFrame(span, columns=["layer", "head", "total_variance", "rank", "text", "explained_variance"]),
        top_images=pd.DataFrame(top, columns=["layer", "head", "rank", "text", "place", "image", "name", "score"]),
        ablation=ablation.assign(question="<i>what</i>", classes=4, scored=16, means_from=16),
        heatmaps=(Heatmap(0, "a </style><script>x</script>", torch.tensor([[0.1, -0.2]]), 0.05, 0.25),),
        skipped=pd.DataFrame([(EVIL, "cut <off>")], columns=["name", "reason"]),
        pictures={0: Image.new("RGB", (32, 32), "red"), 1: Image.new("RGB", (32, 32), "blue")},
    )


def test_nothing_is_loaded_from_outside(report):
    page = render(report)
    for address in ("http://", "https://", 'src="//', "url(//", "<script", "<link", "@import", "<iframe"):
        assert address not in page
    sources = re.findall(r'src="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    for source in sources:
        assert b"http" not in base64.b64decode(source.partition(",")[2])


def test_names_and_texts_show_as_text(report):
    page = render(report)
    assert "<img src=x" not in page
    assert "cut <off>" not in page
    assert "<i>what</i>" not in page
    assert page.count(html.escape(EVIL, quote=False)) >= 4
    assert page.count("</style>") == 1


def test_numbers_are_those_of_the_tables(report):
    page = " ".join(re.sub(r"<[^>]*>", " ", render(report)).split())
    for shown in ("2.0e-07", "+50.0 ± 2.0", "+85.0", "75.0 %", "87.5 %", "81.2 31.2 31.2 75.0 25.0", "1,234"):
        assert shown in page, shown
    assert "1 of 3 files could not be used" in page
    assert "all patches -0.100, class token +0.050 of cosine +0.250" in page


def test_each_picture_is_stored_once_and_shown_by_its_class(report):
    page = render(report)
    assert page.count(".i0 {") == page.count(".i1 {") == 1
    assert page.index('class="thumb i1"') < page.index('class="thumb i0"')


def test_contents_lead_to_sections_that_exist(report):
    page = render(report)
    targets = re.findall(r'href="#(\w+)"', page)
    assert len(targets) == 8
    assert all(f'id="{target}"' in page for target in targets)


def test_sections_without_content_are_left_out(report):
    fields = {**vars(report), "ablation": report.ablation.iloc[:0], "skipped": report.skipped.iloc[:0]}
    page = render(Report(**fields))
    assert 'id="ablation"' not in page
    assert 'id="skipped"' not in page
    assert 'href="#skipped"' not in page
