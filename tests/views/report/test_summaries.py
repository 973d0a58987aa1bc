"""Tables beside figures hold the figures' numbers, escaped."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from clip_lens_plugin.views.figures.summaries import ablation_figure, head_figure, layer_figure
from clip_lens_plugin.views.report.summaries import (
    ablation_view,
    explained_variance_view,
    head_view,
    layer_view,
    table,
    text_span_completeness_view,
)


def cells(body: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", body)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_layers(report):
    rows = cells(layer_view(report.layers).body)
    assert rows[1] == ["patch embedding", "", "", "", "+10.0 ± 1.0"]
    assert rows[2] == ["0", "+50.0 ± 2.0", "+30.0 ± 3.0", "+5.0 ± 0.0", "+85.0"]
    bars = layer_figure(report.layers).axes[0].containers
    heights = [bar.get_height() for group in bars if hasattr(group, "patches") for bar in group.patches]
    np.testing.assert_allclose(sorted(heights), [5, 5, 10, 30, 50])


def test_an_attention_pools_parts_stand_after_the_layers(report):
    pool = pd.DataFrame({"part": ["pool_bias", "pool_mlp"], "share_mean": [0.02, -0.04], "share_std": [0.0, 0.01]})
    layers = pd.concat([report.layers, pool])
    rows = cells(layer_view(layers).body)
    assert rows[-2] == ["attention pool&#39;s biases", "", "", "", "+2.0 ± 0.0"]
    assert rows[-1] == ["attention pool&#39;s MLP", "", "", "", "-4.0 ± 1.0"]
    axes = layer_figure(layers).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()][-2:] == ["pool\nbias", "pool\nMLP"]
    heights = [bar.get_height() for group in axes.containers if hasattr(group, "patches") for bar in group.patches]
    np.testing.assert_allclose(sorted(heights), [-4, 2, 5, 5, 10, 30, 50])


def test_heads(report):
    rows = cells(head_view(report.heads).body)
    assert rows[1:] == [["0", "0", "+60.00", "10.00"], ["0", "1", "-10.00", "20.00"]]
    shown = head_figure(report.heads).axes[0].images[0]
    np.testing.assert_allclose(shown.get_array(), [[60, -10]])
    assert shown.get_clim() == (-60, 60)


def test_ablation_has_a_line_a_question(report):
    rows = cells(ablation_view(report.ablation).body)
    assert rows[2] == ["&lt;i&gt;what&lt;/i&gt;", "mean", "direct", "attention 0", "31.2", "25.0 to 50.0"]
    both = report.ablation.assign(question="other")
    figure = ablation_figure(pd.concat([report.ablation, both]))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["<i>what</i>", "other"]
    xs = [line.get_xdata()[0] for line in figure.axes[0].get_lines() if list(line.get_ydata()) == [75.0]]
    assert len(set(xs)) == 2  # beside each other, not one over the other


def test_accuracy_over_texts():
    rows = [("all directions", 0, 0.75, 0.7, 0.8), ("<b>own</b>", 10, 0.5, 0.4375, 0.5625)]
    found = pd.DataFrame(rows, columns=["pool", "n_texts", "accuracy", "low", "high"])
    assert cells(text_span_completeness_view(found).body) == [
        ["pool", "texts per head", "accuracy (%)", "95 % interval"],
        ["all directions", "", "75.0", "70.0 to 80.0"],
        ["&lt;b&gt;own&lt;/b&gt;", "10", "50.0", "43.8 to 56.2"],
    ]
    asked = cells(text_span_completeness_view(found.assign(question="shape")).body)
    assert [row[0] for row in asked] == ["question", "shape", "shape"]


def test_explained_variance(spans):
    rows = cells(explained_variance_view(spans.to_dataframe()).body)
    assert rows[1:] == [["0", "0", "2", "87.5"], ["1", "0", "1", "50.0"], ["1", "1", "1", "25.0"]]


def test_cells_are_escaped():
    assert "&lt;b&gt;" in table(("<b>",), [("<i>",)])
    assert "<i>" not in table(("<b>",), [("<i>",)])
