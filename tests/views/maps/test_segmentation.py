"""The table and the grid of overlays: what is best is bold, whoever it is."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from clip_lens_plugin import HookedCLIP, segmentation_scores
from clip_lens_plugin.saliency.methods import SaliencyMethod
from clip_lens_plugin.segmentation.result import SegmentationScores
from clip_lens_plugin.views import segmentation_view
from clip_lens_plugin.views.maps.segmentation import outlined
from clip_lens_plugin.views.words.segmentation import lines_of, notes, shown_kinds
from tests.segmentation.planted import Planted, bright, masked

NAME = "<b>bold</b>"


@pytest.fixture(scope="module")
def scores() -> SegmentationScores:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    first = masked("a.jpg", NAME, (32, 0, 48, 16), (112, 56), void=np.eye(56, 112, dtype=bool))
    whole = masked("whole", "b", (0, 0, 56, 56))
    other = masked("c.jpg", "b", (0, 0, 16, 16), other=masked("x", "x", (40, 40, 56, 56)).mask)
    dark = SaliencyMethod("dark", True, lambda *given: -bright().maps(*given), "Dark $x$")
    return segmentation_scores(model, [dark, bright()], Planted([first, whole, other]), overlays=3)


def test_the_best_is_bold_and_where_it_is_not_the_reference_a_sentence_says_so(scores: SegmentationScores) -> None:
    assert scores.reference == "dark, contrast"
    lines = {line.label: line for line in lines_of(scores)}
    assert [cell.best for cell in lines["bright"].cells[:3]] == [True] * 3
    assert not any(cell.best for label in ("dark", "dark, contrast") for cell in lines[label].cells[:3])
    assert lines["dark, contrast"].own
    assert lines["dark, contrast"].difference == ""
    assert lines["bright"].difference.startswith("+")
    verdict = scores.verdicts()[0]
    assert "bright is best" in verdict
    assert re.search(r"Dark \$x\$, contrast has \d+\.\d, \d+\.\d points less \(95 % interval", verdict)
    body = str(segmentation_view(scores).body)
    assert body.count("<b>100.0</b>") >= 1
    assert f"<td><b>{lines['bright'].cells[0].value}</b>" in body


def test_what_was_left_out_is_said(scores: SegmentationScores) -> None:
    said = " ".join(notes(scores))
    assert "were not seen by the model" in said
    assert "masks say nothing of them" in said
    assert "1 image with a mask that is all object" in said
    assert "whole" in said
    assert "chance is 50 %" in said


def test_a_page_holds_each_picture_once_and_texts_as_they_are(scores: SegmentationScores, tmp_path) -> None:
    page = scores.save(tmp_path / "a.html").read_text()
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert NAME not in page
    assert page.count('class="cl-map"') == 3 * 2  # of "dark" the contrast alone
    assert page.count(" cl-unseen") == 2  # the one that is wider than the crop
    assert page.count("image/jpeg") == 3 * 2  # in colour and as a background
    assert shown_kinds(scores) == ["dark, contrast", "bright"]
    assert "SegmentationScores(3 images of planted images" in repr(scores)
    assert "cl-scores" in scores.view()._repr_html_()


def test_figures_are_drawn_with_and_without_maps(scores: SegmentationScores, tmp_path) -> None:
    drawn = Image.open(scores.save(tmp_path / "a.png"))
    assert drawn.width > 900
    table = scores.save(tmp_path / "a.csv").read_text()
    assert table.startswith("method,contrast,images,average_precision,average_precision_low")
    bare = SegmentationScores(scores.rows, scores.kinds, scores.reference, "original", "m", "t")
    assert Image.open(bare.save(tmp_path / "b.png")).height < drawn.height
    assert "cl-overlays" not in str(segmentation_view(bare).body)


def test_an_outline_is_white_within_and_black_without() -> None:
    mask = np.zeros((22, 44), dtype=bool)
    mask[5:15, 10:30] = True
    pixels = np.asarray(Image.open(io.BytesIO(outlined(mask))))
    assert pixels.shape == (110, 220, 4)
    white, black = (pixels == [255] * 4).all(-1), (pixels == [0, 0, 0, 255]).all(-1)
    assert white[25, 50:150].all()
    assert black[24, 50:150].all()
    assert not pixels[30:70, 60:140].any()
    assert not pixels[:20].any()
