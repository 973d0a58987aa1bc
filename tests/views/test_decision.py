"""A decision's page and figure: numbers that add up, patches in their places, and names that show as text."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pandas as pd
import pytest
import torch
from PIL import Image

from clip_lens_plugin.decisions.decision import Decision
from clip_lens_plugin.decisions.gaps import GapTable
from clip_lens_plugin.decisions.removal import RemovedHeads
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.maps.pictured import Pictured
from clip_lens_plugin.views.decision import decision_view
from clip_lens_plugin.views.words.decision import blocks
from tests.views.conftest import EVIL, EVIL_TEXT

PHOTO = Image.new("RGB", (64, 32), (200, 80, 30))
GAP = 0.25


def heads() -> GapTable:
    rows = [("head", l, h, 0.01 * (l - h), 0.02 * (l - h)) for l in range(4) for h in range(4)]
    rows[-1] = ("head", 3, 3, 0.2, 0.3)
    rows[0] = ("head", 0, 0, -0.1, -0.2)
    beside = GAP - sum(row[3] for row in rows)
    rows += [("mlp", 0, None, 2 * beside, None), ("mlp", 1, None, -beside, None)]
    table = pd.DataFrame(rows, columns=["part", "layer", "head", "gap", "removed"])
    return GapTable.of("heads", table.astype({"layer": "Int64", "head": "Int64", "removed": "float64"}), GAP)


def patches() -> GapTable:
    values = torch.zeros(2, 4)
    values[1, 2], values[0, 3] = 0.2, -0.1
    rows = [("patch", r, c, float(values[r, c])) for r in range(2) for c in range(4)]
    rows += [("class token", None, None, 0.05), ("mlp", None, None, GAP - 0.15)]
    table = pd.DataFrame(rows, columns=["part", "row", "column", "gap"])
    return GapTable.of("patches", table.astype({"row": "Int64", "column": "Int64"}), GAP)


@pytest.fixture
def decision(spans) -> Decision:
    random = (0.2, 0.3, -0.01)
    first = RemovedHeads(((3, 3),), "table", -0.05, 0.125, False, "a dog", random, 1)
    second = RemovedHeads(((3, 3), (3, 0)), "run", -0.11, -0.0625, True, EVIL_TEXT, random, 0)
    pictured = Pictured(Photograph(PHOTO, EVIL), None, as_seen=True)
    return Decision(
        texts=("a dog", EVIL_TEXT),
        cosines=(0.5, 0.25),
        gap=GAP,
        heads=heads(),
        patches=patches(),
        removed=(first, second),
        ablation="mean",
        replaced_by="their mean over 9 images",
        n_heads=16,
        grid_size=(2, 4),
        pictured=pictured,
        spans=spans,
    )


def plain(body: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_lines_of_each_block_add_up_to_the_gap(decision) -> None:
    for block, n_shown in zip(blocks(decision), (8, 5), strict=True):
        assert sum(line.gap for line in block.lines) == pytest.approx(GAP)
        sizes = [abs(line.gap) for line in block.lines if line.alone]
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) == n_shown
        assert block.limit == sizes[0]
    first = blocks(decision)[0].lines[0]
    assert (first.name, first.chip, first.removed_gap) == ("layer 3, head 3", "of the 2 that flip it", 0.3)
    assert {line.name for line in blocks(decision)[0].lines if not line.alone} == {"the other 8 heads", "MLPs"}


def test_the_page_says_what_was_found(decision) -> None:
    view = decision_view(decision)
    page = plain(view.body)
    assert view.title == f"Why “a dog” rather than “{EVIL_TEXT}”"
    for each in decision.sentences():
        assert " ".join(each.split()) in page
    for each in (
        "layer 0, head 0 −0.1000",
        "less its mean +0.3000",
        "row 1, column 2 +0.2000",
        "1 of 3 flip",
        "−0.0625",
    ):
        assert each in page, each
    assert f"{EVIL_TEXT}; another" in page  # What TextSpan says of layer 0, head 0.
    other = replace(decision, gap=-GAP, cosines=(0.25, 0.5))
    assert decision_view(other).title == f"Why “{EVIL_TEXT}” rather than “a dog”"
    which_sign = "the answer is below zero there"
    assert which_sign in plain(decision_view(other).body)
    assert which_sign not in page


def test_names_and_texts_are_text_and_nothing_is_loaded_or_run(decision) -> None:
    body = decision_view(decision).body
    assert "<img src=x" not in body
    assert "<script" not in body
    assert "http" not in body
    assert all(each.startswith("data:image/") for each in re.findall(r'src="([^"]*)"', body))


def test_marks_lie_on_their_patches(decision) -> None:
    body = decision_view(decision).body
    marks = re.findall(r'class="cl-spot cl-spot-(\d)" style="([^"]*)"', body)
    assert [mark for mark, _ in marks] == list("12345")
    assert marks[0][1] == "left:50.00%;top:50.00%;width:25.00%;height:50.00%"
    assert marks[1][1] == "left:75.00%;top:0.00%;width:25.00%;height:50.00%"
    figure = decision_view(decision).figure()
    photo = figure.axes[0]
    assert photo.patches[0].get_bbox().bounds == pytest.approx((31.5, 15.5, 16, 16))
    assert [text.get_text() for text in photo.texts] == list("12345")


def test_dots_lie_left_of_zero_where_the_answer_flips(decision) -> None:
    body = decision_view(decision).body
    strips = re.findall(r'<span class="cl-strip"><i class="cl-zero" style="left:([\d.]+)%"></i>(.*?)</span><span', body)
    assert len(strips) == 8
    for zero, dots in strips:
        found = re.findall(r'class="cl-dot ([\w-]+)" style="left:([\d.]+)%" title="([+−\d.]+)"', dots)
        assert found
        for side, left, gap in found:
            assert (float(left) < float(zero)) == gap.startswith("−")
            assert side == "random" or side == ("for-b" if gap.startswith("−") else "for-a")


def test_a_figure_has_every_part(decision) -> None:
    figure = decision_view(decision).figure()
    bars = next(axes for axes in figure.axes if len(axes.patches) == 8)
    assert sorted(abs(each.get_width()) for each in bars.patches)[-1] == pytest.approx(0.2)
    dots = [len(axes.lines) for axes in figure.axes]
    assert dots.count(3 + 3 + 1) == 2  # Three gaps, three random sets, and zero.
    assert all(not text.get_parse_math() for text in figure.texts)


def test_without_a_picture_the_tables_stand_in_its_place(decision) -> None:
    unknown = replace(decision, pictured=None)
    with pytest.raises(ValueError, match="do not know the pictures"):
        unknown.view()
    assert "layer" in unknown._repr_html_()
    assert decision_view(unknown, PHOTO).body.count("<img") == 2
    with pytest.raises(ValueError, match="cannot be what the model sees"):
        decision_view(unknown, PHOTO.resize((10, 90)))
