"""The page: it opens offline, escapes what it is given, and shows the numbers of the tables."""

from __future__ import annotations

import base64
import hashlib
import html
import re

import numpy as np
import pytest
import torch
from PIL import Image

from clip_lens_plugin.describe.spans import TextSpanResult
from clip_lens_plugin.maps.patch_text import HeadTextScores
from clip_lens_plugin.report.analyses import HEATMAP_BYTES, Heatmap, Report
from clip_lens_plugin.views.report import render
from tests.views.conftest import EVIL, EVIL_TEXT, span

pytestmark = pytest.mark.slow


def executable_scripts(page: str) -> list[str]:
    return re.findall(r"<script>(.*?)</script>", page, re.DOTALL)


def test_nothing_is_loaded_from_outside(report):
    page = render(report)
    for address in ("http://", "https://", 'src="//', "url(//", "<link", "@import", "<iframe"):
        assert address not in page
    sources = re.findall(r'src="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    for source in sources:
        assert b"http" not in base64.b64decode(source.partition(",")[2])


def test_the_only_script_is_ours_and_the_page_lets_no_other_run(report):
    page = render(report)
    (script,) = executable_scripts(page)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0])
    assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.split("script-src")[1]
    others = set(re.findall(r"<script ([^>]*)>", page))
    assert others == {'type="application/json"'}


def test_names_and_texts_show_as_text(report):
    page = render(report)
    for raw in ("<img src=x", "cut <off>", "<i>what</i>", "<script>x", "model <b>"):
        assert raw not in page
    assert page.count(html.escape(EVIL, quote=False)) >= 3
    assert html.escape(EVIL_TEXT, quote=False) in page
    for data in re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL):
        assert "<" not in data


def test_numbers_are_those_of_the_tables(report):
    page = " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<(script|style).*?</\1>", "", render(report), flags=re.S)).split())
    for shown in ("2.0e-07", "+50.0 ± 2.0", "+85.0", "75.0 %", "87.5 %", "31.2 25.0 to 50.0", "1,234", "+60.00 10.00"):
        assert shown in page, shown
    assert "1 of 3 files could not be used" in page


def test_each_thumbnail_is_stored_once_and_shown_by_its_class(report):
    page = render(report)
    classes = re.findall(r"\.(cl-g\w+-\d+) {", page)
    assert len(classes) == len(set(classes)) == 2
    shown = re.findall(r'class="cl-thumb (cl-g\w+-\d+)"', page)
    assert [name.split("-")[-1] for name in shown] == ["0", "1", "0"]  # layer 1 first; then most, least


def test_contents_lead_to_sections_that_exist(report):
    page = render(report)
    targets = re.findall(r'href="#([\w-]+)"', page)
    assert len(targets) == 8
    assert all(f'id="{target}"' in page for target in targets)


def test_sections_without_content_are_left_out(report):
    fields = {**vars(report), "ablation": report.ablation.iloc[:0], "skipped": report.skipped.iloc[:0]}
    page = render(Report(**fields))
    assert 'id="ablation"' not in page
    assert 'id="skipped"' not in page
    assert 'href="#skipped"' not in page


def test_two_hundred_photographs_and_a_large_tower_stay_below_15_megabytes(report):
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)) for _ in range(4)]
    pictures = {i: noise[i % 4].rotate(i) for i in range(200)}
    layers, heads, tokens, texts = 24, 16, 577, 3
    number = max(1, HEATMAP_BYTES // (4 * layers * heads * tokens * texts))
    scores = HeadTextScores(torch.randn(layers, heads, tokens, texts), torch.zeros(3), ("a", "b", "c"), (24, 24))
    rows = [
        (layer, head, 1, "text", side, 1 + i, (8 * (16 * layer + head) + i) % 200, 0.1)
        for layer in range(20, 24)
        for head in range(16)
        for side in ("highest", "lowest")
        for i in range(4)
    ]
    top = report.top_images.iloc[:0].copy()
    columns = ["layer", "head", "rank", "text", "side", "place", "image", "score"]
    for at, row in enumerate(rows):
        top.loc[at, columns] = row
    cards = [span(layer, head, ["text"] * 8, [0.5] * 8, 0.1) for layer in range(20, 24) for head in range(16)]
    fields = {
        **vars(report),
        "names": tuple(f"{i}.jpg" for i in range(200)),
        "spans": TextSpanResult(cards, n_layers=24),
        "top_images": top.astype({"layer": int, "head": int, "rank": int, "place": int, "image": int}),
        "pictures": pictures,
        "heatmaps": tuple(Heatmap(i, scores, pictures[i], None) for i in range(number)),
    }
    assert len(render(Report(**fields)).encode()) < 15_000_000
