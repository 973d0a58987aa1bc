"""What figures show is what the tables hold, and their files are the same each time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clip_lens_plugin.views.drawing.colours import ADDS, NEUTRAL, TAKES
from clip_lens_plugin.views.drawing.figure_files import save_figure
from clip_lens_plugin.views.figures.summaries import (
    ablation_figure,
    explained_variance_figure,
    text_span_completeness_figure,
)


def ablation_table() -> pd.DataFrame:
    table = pd.DataFrame(
        [
            ("nothing", "base", 0, 0.9),
            ("attention 0", "attention", 1, 0.8),
            ("attention 0-1", "attention", 2, 0.3),
            ("all MLPs", "mlps", 2, 0.6),
        ],
        columns=["ablated", "kind", "layers", "accuracy"],
    )
    return table.assign(low=table["accuracy"] - 0.1, high=table["accuracy"] + 0.05, ablation="mean", effect="total")


def completeness_table() -> pd.DataFrame:
    rows = [("model", 0, 0.9), ("all directions", 0, 0.7), ("texts", 4, 0.6), ("texts", 1, 0.5), ("random", 1, 0.2)]
    table = pd.DataFrame(rows, columns=["pool", "n_texts", "accuracy"])
    return table.assign(low=table["accuracy"] - 0.1, high=table["accuracy"] + 0.05)


def explained_table(n_layers: int, n_heads: int) -> pd.DataFrame:
    rows = [(l, h, r, 1 - 0.5**r / (1 + h)) for l in range(n_layers) for h in range(n_heads) for r in (1, 2, 3)]
    return pd.DataFrame(rows, columns=["layer", "head", "rank", "explained_variance"])


def test_the_curve_its_band_and_the_points_beside_it_are_those_of_the_table():
    axes = ablation_figure(ablation_table()).axes[0]
    curve = axes.get_lines()[0]
    np.testing.assert_allclose(curve.get_xdata(), [0, 1, 2])
    np.testing.assert_allclose(curve.get_ydata(), [90, 80, 30])
    band = axes.collections[0].get_paths()[0].vertices
    assert {(0, 80), (0, 95), (2, 20), (2, 35)} <= {(round(x), round(y)) for x, y in band}
    points = [line for line in axes.get_lines() if list(line.get_ydata()) == [60.0]]
    assert len(points) == 1
    assert points[0].get_xdata()[0] > 2
    assert "all MLPs" in [label.get_text() for label in axes.get_xticklabels()]


def test_each_layer_has_a_panel_and_each_head_a_line_of_which_two_are_named():
    table = explained_table(5, 9)
    table.loc[(table["layer"] == 4) & (table["head"] == 7), "explained_variance"] /= 10
    figure = explained_variance_figure(table)
    panels = [axes for axes in figure.axes if axes.get_lines()]
    assert [axes.get_title() for axes in panels] == [f"layer {l}" for l in range(5)]
    lines = panels[4].get_lines()
    assert len(lines) == 9
    np.testing.assert_allclose(lines[1].get_ydata(), [75, 87.5, 93.75])
    assert [line.get_color() for line in lines] == [*[NEUTRAL] * 7, TAKES, ADDS]
    named = [(text.get_text(), text.get_color()) for text in figure.texts if text.get_text().startswith("head")]
    assert named == [("head 8", ADDS), ("head 0", TAKES)] * 4 + [("head 8", ADDS), ("head 7", TAKES)]


def test_accuracy_over_texts_has_a_panel_a_question_and_a_line_a_pool():
    shape = completeness_table().assign(question="shape")
    colour = shape[shape["pool"] != "random"].assign(question="colour")
    figure = text_span_completeness_figure(pd.concat([shape, colour]))
    left, right = figure.axes
    assert [axes.get_title() for axes in (left, right)] == ["shape", "colour"]
    curves = [(list(line.get_xdata()), list(line.get_ydata())) for line in left.get_lines()]
    assert curves[:2] == [([1, 4], [50, 60]), ([1], [20])]
    assert [ys for _, ys in curves[2:]] == [[70, 70], [90, 90]]
    band = left.collections[0].get_paths()[0].vertices
    assert {(1, 40), (1, 55), (4, 50), (4, 65)} <= {(round(x), round(y)) for x, y in band}
    colours = [[line.get_color() for line in axes.get_lines() if len(line.get_xdata()) == 2] for axes in (left, right)]
    assert colours[0] == colours[1]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["texts", "random", "all directions: heads whole", "model"]
    alone = text_span_completeness_figure(completeness_table()).axes
    assert [axes.get_title() for axes in alone] == [""]
    assert len(alone[0].get_lines()) == 4
    as_model = text_span_completeness_figure(completeness_table().replace({"pool": {"texts": "model"}}))
    names = [text.get_text() for text in as_model.legends[0].get_texts()]
    assert names == ["model", "random", "all directions: heads whole", "model"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_files_are_reproducible_and_tell_no_version(tmp_path, suffix):
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in files:
        save_figure(ablation_figure(ablation_table()), path)
    first, second = (path.read_bytes() for path in files)
    assert first == second
    assert b"Software" not in first
    assert b"dc:date" not in first
    assert b"Matplotlib v" not in first
    assert b"CreationDate" not in first
    assert b"Producer" not in first


def test_a_pdf_embeds_its_letters_as_truetype(tmp_path):
    save_figure(ablation_figure(ablation_table()), tmp_path / "a.pdf")
    written = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in written
    assert b"/Type3" not in written


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one of \.png \.svg \.pdf, got .*a\.eps"):
        save_figure(ablation_figure(ablation_table()), tmp_path / "a.eps")
