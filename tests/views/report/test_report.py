"""The page: it opens offline, escapes what it is given, and shows the numbers of the tables."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from clip_lens_plugin.describe.spans import TextSpanResult
from clip_lens_plugin.maps.patch_text import HeadTextScores
from clip_lens_plugin.report.analyses import HEATMAP_BYTES, Heatmap
from clip_lens_plugin.report.clearest import COLUMNS
from clip_lens_plugin.report.results import TABLES
from clip_lens_plugin.views.report.report import InExplorer, render
from tests.views.conftest import EVIL, EVIL_TEXT, span

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(report) -> str:
    return render(report)


def executable_scripts(page: str) -> list[str]:
    return re.findall(r"<script>(.*?)</script>", page, re.DOTALL)


def test_nothing_is_loaded_from_outside(page):
    for address in ("http://", "https://", 'src="//', "url(//", "<link", "@import", "<iframe"):
        assert address not in page
    sources = re.findall(r'src="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    for source in sources:
        assert b"http" not in base64.b64decode(source.partition(",")[2])


def test_the_only_scripts_are_ours_and_the_page_lets_no_other_run(page):
    ours = executable_scripts(page)
    assert len(ours) == 2  # That of the views, and the search box.
    policy = html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0])
    for script in ours:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
        assert "innerHTML" not in script
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.split("script-src")[1]
    others = set(re.findall(r"<script ([^>]*)>", page))
    assert others == {'type="application/json"'}


def test_names_and_texts_show_as_text(page):
    for raw in ("<img src=x", "cut <off>", "<i>what</i>", "<script>x", "model <b>"):
        assert raw not in page
    assert page.count(html.escape(EVIL, quote=False)) >= 3
    assert "file &lt;u&gt;.pt" in page
    assert "two &lt;images&gt;" in page
    assert html.escape(EVIL_TEXT, quote=False) in page
    for data in re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL):
        assert "<" not in data


def test_numbers_are_those_of_the_tables(page):
    page = " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)).split())
    shown = ("2.0e-07", "+50.0 ± 2.0", "+85.0", "75.0 %", "87.5 %", "31.2 25.0 to 50.0", "1,234", "+60.00 10.00")
    for each in (*shown, "0, head 0 4.00e-03 2 87.5 50.0 yes"):
        assert each in page, each
    assert "1 of 3 files could not be used" in page


def test_each_thumbnail_is_stored_once_and_shown_by_its_class(page):
    classes = re.findall(r"\.(cl-g\w+-\d+) {", page)
    assert len(classes) == len(set(classes)) == 2
    shown = re.findall(r'class="cl-thumb (cl-g\w+-\d+)"', page)
    # Of the clearest heads; then of all, layer 1 first, most before least.
    assert [name.split("-")[-1] for name in shown] == ["0", "1", "0", "1", "0"]
    pictures = re.findall(r"url\((data:image/[^)]*)\)", page) + re.findall(r'src="(data:image/jpeg[^"]*)"', page)
    assert len(pictures) == len(set(pictures))


def test_links_lead_to_what_exists(page):
    targets = set(re.findall(r'href="#([\w-]+)"', page))
    assert targets == {"layers", "heads", "textspan", "ablation", "skipped"}
    assert all(f'id="{target}"' in page for target in targets)


def test_everything_but_the_answers_is_folded_and_needs_no_script_to_open(page):
    folds = re.findall(r'<details class="fold"[^>]*><summary><h2>(.*?)</h2></summary>', page)
    assert "Patch-text maps" in folds
    assert len(folds) == page.count('<details class="fold">') == 8
    before = page.partition('<details class="fold">')[0]
    assert "The clearest heads" in before
    assert "Which layers and heads matter" in before


def test_maps_without_scripts_are_laid_over_the_photograph(report, page):
    still = re.findall(r'<div class="cl-static">.*?</div><p', page, re.DOTALL)
    assert len(still) == 1
    assert re.findall(r'alt="Map for ([^"]*)"', still[0]) == ["a dog", html.escape(EVIL_TEXT)]
    encoded = re.findall(r'src="data:image/png;base64,([^"]*)"', still[0])
    maps = report.heatmaps[0].scores.map().values[0]
    for each, values in zip(encoded, maps, strict=True):
        painted = np.asarray(Image.open(io.BytesIO(base64.b64decode(each))))
        assert painted.shape == (2, 4, 4)
        positive = values.numpy() > 0
        np.testing.assert_array_equal(painted[..., 0].astype(int) > painted[..., 2], positive)
        expected = 255 * 0.75 * np.abs(values.numpy()) / maps.abs().max().item()
        np.testing.assert_allclose(painted[..., 3], expected, atol=0.51)


def test_the_foot_says_what_a_colleague_needs_to_make_it_again(page):
    foot = html.unescape(re.sub(r"<[^>]*>", "", page.partition("<footer")[2]))
    for each in (
        *("2026-01-02 03:04:05+00:00", "clip-lens report --images 'two <images>'", "clip_lens_plugin 1.2.3"),
        *("torch 4.5.6", "on cpu in float32", "model <b>, weights from file <u>.pt", "32 × 48 pixels"),
        *("Resize(size=32); CenterCrop((32, 48))", "2 images, 1 skipped", "0123456789ab", "1,234: texts & more"),
        "embedding equal to the source's own to 1.0e-07 on one probe image",
    ):
        assert each in foot, each


def test_sections_without_content_are_left_out(report):
    about = replace(report.provenance, n_skipped=0)
    empty = {"ablation": report.ablation.iloc[:0], "skipped": report.skipped.iloc[:0], "explained": ()}
    page = render(replace(report, **empty, provenance=about))
    assert 'id="ablation"' not in page
    assert 'id="skipped"' not in page
    assert 'id="classes"' not in page
    assert "ablation.parquet" not in page
    assert "skipped.parquet" not in page


def test_each_part_names_the_command_that_opens_it(report):
    commands = {
        "": [InExplorer("", "clip-lens explore '<i>'")],
        "layers": [InExplorer("Switch off", "clip-lens explore '<i>' --at 'tab=off&off=L0'")],
        "textspan": [InExplorer("Heads", "first")],
        "ablation": [InExplorer("Switch off", "second"), InExplorer("Heads", "of no part")],
        "decisions": [InExplorer("Why", "of no section")],
    }
    page = render(report, commands)
    shown = re.findall(r'<p class="opens soft">In the explorer, page (.*?): <code tabindex="0">(.*?)</code></p>', page)
    assert [(name, html.unescape(command)) for name, command in shown] == [
        ("Switch off", "clip-lens explore '<i>' --at 'tab=off&off=L0'"),
        ("Heads", "first"),
        ("Switch off", "second"),
    ]
    assert '<dt>Explorer</dt><dd><code tabindex="0">clip-lens explore &#39;&lt;i&gt;&#39;</code>' in page
    assert 'class="opens' not in render(report)
    assert "<dt>Explorer</dt>" not in render(report)


def test_tables_of_an_earlier_report_do_not_stay(report, tmp_path):
    report.save_tables(tmp_path)
    full = TABLES - {"decisions", "roles"}  # This one has none.
    assert {path.stem for path in tmp_path.glob("*.parquet")} == full
    (tmp_path / "mine.parquet").write_bytes(b"kept")
    empty = {"ablation": report.ablation.iloc[:0], "heatmaps": ()}
    replace(report, **empty).save_tables(tmp_path)
    assert {path.stem for path in tmp_path.glob("*.parquet")} == (full - empty.keys()) | {"mine"}


def test_two_hundred_photographs_and_a_large_tower_stay_below_15_megabytes(report):
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (480, 480, 3), dtype=np.uint8)) for _ in range(4)]
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
    columns = ["layer", "head", "rank", "text", "side", "place", "image", "score"]
    top = pd.DataFrame(rows, columns=columns).assign(name="a")
    late = [(layer, head) for layer in range(20, 24) for head in range(16)]
    cards = [span(*head, ["text"] * 8, [0.5] * 8, 0.1) for head in late]
    fields = {
        "names": tuple(f"{i}.jpg" for i in range(200)),
        "spans": TextSpanResult(cards, n_layers=24),
        "clarity": pd.DataFrame(
            [(20 + i // 16, i % 16, 3, 0.5, 0.1, 0.2, 0.1, True, True) for i in range(64)]
        ).set_axis(COLUMNS, axis=1),
        "top_images": top,
        "pictures": pictures,
        "heatmaps": tuple(Heatmap(i, scores, pictures[i], None) for i in range(number)),
    }
    assert len(render(replace(report, **fields)).encode()) < 15_000_000
