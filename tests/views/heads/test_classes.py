"""Views of what classes explain hold its numbers: a grid from zero up, chance beside, names escaped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clip_lens_plugin.views import class_heads_view
from clip_lens_plugin.views.heads.classes import class_section
from tests.views.report.test_summaries import cells


def rows_of_heads(body: str) -> list[list[str]]:
    """The rows of all tables but their headings."""
    return [row for row in cells(body) if row[0] not in ("layer", "class")]


def test_heads_stand_beside_chance_with_their_classes(class_heads):
    body = class_heads_view(class_heads).body
    assert "the means of 2 classes, over 10 images; 3 images without a label are left out." in body
    assert "Layers 1 to 2 alone." in body
    assert "No image of cow." in body
    assert "Chance is the mean of 20 permutations of the labels." in body
    rows = rows_of_heads(body)
    assert rows[0] == ["1", "0", "80.0", "11.0 (22.0)", "1.0e-03", "dog (50.0), &lt;i&gt;cat&lt;/i&gt; (30.0)"]
    assert [row[:3] for row in rows[1:3]] == [["1", "1", "20.0"], ["2", "0", "10.0"]]
    assert rows[3] == ["&lt;i&gt;cat&lt;/i&gt;", "6", "L2H0; L1H1; L1H0"]
    assert rows[4] == ["dog", "4", "L1H0; L1H1; L2H0"]
    assert "<i>" not in body


def test_the_grid_goes_from_white_up_and_leaves_out_what_is_not_known(class_heads):
    axes = class_heads_view(class_heads).figure().axes
    image = axes[0].images[0]
    np.testing.assert_allclose(image.get_array().filled(-1), [[-1, -1], [80, 20], [10, -1]])
    assert (image.cmap.name, image.norm.vmin, image.norm.vmax) == ("Oranges", 0.0, pytest.approx(80.0))
    assert [text.get_text() for text in axes[0].texts] == ["80", "20", "10"]
    assert axes[1].get_xlabel() == "variance that the classes explain (%)"
    section = class_section(class_heads)
    assert 'title="layer 1, head 0: 80.0 %"' in section
    assert 'title="layer 2, head 1: nothing"' in section
    assert section.count(">–<") == 3


def test_without_permutations_or_with_a_classifier_columns_are_others(class_heads):
    alone = replace(class_heads, permutations=0, chance_most=torch.full((2, 2), torch.nan).double())
    body = class_heads_view(alone, count=1).body
    assert "(classes − 1) / (images − 1)" in body
    assert rows_of_heads(body)[0][:4] == ["1", "0", "80.0", "11.0"]
    assert "the greatest" not in body
    towards = torch.tensor([[[0.01, 0.0], [0.0, 0.0]], [[0.003, 0.0], [0.02, 0.0]]], dtype=torch.float64)
    body = class_heads_view(replace(class_heads, towards=towards, towards_whole=torch.zeros(2).double())).body
    assert rows_of_heads(body)[0][-1] == "&lt;i&gt;cat&lt;/i&gt; (+0.0100), dog (+0.0030)"


def test_nothing_is_drawn_where_no_head_varies(class_heads):
    dead = replace(class_heads, eta_squared=torch.full((2, 2), torch.nan).double())
    for draw in (class_heads_view, class_section):
        with pytest.raises(ValueError, match="No head varies"):
            draw(dead)
