"""Views of patching hold its numbers: the grid of heads, estimates against exact values, the wrong signs by name."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from clip_lens_plugin import AttributionPatching, HeadPatching
from clip_lens_plugin.views import attribution_patching_view, head_patching_view
from tests.views.report.test_summaries import cells


@pytest.fixture
def patched() -> HeadPatching:
    """Two pairs, two layers of two heads."""
    effects = torch.tensor([[[0.1, -0.3], [0.0, 0.02]], [[0.3, -0.5], [0.0, 0.02]]], dtype=torch.float64)
    return HeadPatching(effects, torch.tensor([-1.0, -2.0]).double(), torch.tensor([1.0, 3.0]).double())


@pytest.fixture
def attributed(patched) -> AttributionPatching:
    checked = ((0, 0), (0, 1), (1, 1))
    exact = torch.tensor([[0.2, 0.3, 0.05], [0.2, 0.5, 0.05]], dtype=torch.float64)
    greatest = frozenset(checked[:2])
    sides = patched.corrupted, patched.clean
    return AttributionPatching("heads", patched.effects, *sides, checked, greatest, exact, noise=1e-9)


def test_heads_are_a_grid_of_mean_effects(patched):
    view = head_patching_view(patched)
    assert "−1.5 on the corrupted inputs and 2 on the clean ones, the mean of 2 pairs" in view.body
    rows = cells(view.body)[1:]
    assert rows[:2] == [["0", "1", "−0.4000", "0.1000"], ["0", "0", "+0.2000", "0.1000"]]
    shown = view.figure().axes[0]
    np.testing.assert_allclose(shown.images[0].get_array(), [[0.2, -0.4], [0.0, 0.02]])
    assert [text.get_text() for text in shown.texts] == ["0.20", "−0.40"]
    assert view.figure().axes[1].get_xlabel() == "mean change of the metric"


def test_estimates_stand_against_what_was_measured(attributed):
    view = attribution_patching_view(attributed)
    rows = cells(view.body)[1:]
    assert rows == [
        ["L0H1", "−0.4000", "+0.4000", "greatest", "wrong", "2 of 2"],
        ["L0H0", "+0.2000", "+0.2000", "greatest", "", "0 of 2"],
        ["L1H1", "+0.0200", "+0.0500", "random", "", "0 of 2"],
    ]
    figure = view.figure()
    points = {
        (round(float(line.get_xdata()[0]), 9), round(float(line.get_ydata()[0]), 9), line.get_marker())
        for line in figure.axes[0].get_lines()
        if line.get_marker() in ("o", "x")
    }
    assert points == {(-0.4, 0.4, "x"), (0.2, 0.2, "o"), (0.02, 0.05, "o")}
    words = "\n".join(text.get_text() for text in figure.texts)
    assert "L0H1: estimate −0.400, exact +0.400" in words
    assert "2 of the greatest" in words
    assert re.search(r"correlation over these and 2 pairs: −0\.\d{3}\n", words)
    assert "of those drawn at random: unknown" in words
    grid = figure.axes[1]
    np.testing.assert_allclose(grid.images[0].get_array(), [[0.2, -0.4], [0.0, 0.02]])
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in grid.get_lines()] == [(1 - 0.36, 0)]


def test_neurons_have_no_grid_and_many_wrong_ones_are_counted(attributed):
    checked = tuple((0, neuron) for neuron in range(30))
    estimates = torch.ones(2, 1, 40, dtype=torch.float64)
    exact = -torch.arange(1.0, 31).double().expand(2, -1)
    found = replace(
        attributed, kind="neurons", estimates=estimates, checked=checked, exact=exact, greatest=frozenset(checked)
    )
    figure = attribution_patching_view(found).figure()
    assert len(figure.axes) == 1
    words = [text.get_text() for text in figure.texts]
    assert words[-1] == "and 20 more"
    assert words[-2].startswith("L0N20: estimate +1")


def test_what_is_not_known_is_not_drawn(patched, attributed):
    effects = patched.effects.clone()
    effects[0, 0, 0] = torch.nan
    broken = replace(patched, effects=effects)
    with pytest.raises(ValueError, match="NaN in some patched runs, so heads"):
        broken.view()
    assert "NaN in some patched runs" in broken._repr_html_()
    with pytest.raises(ValueError, match="NaN in some patched runs, so estimates"):
        replace(attributed, exact=attributed.exact * torch.nan).view()


def test_nothing_moved_is_drawn_as_nothing(patched, attributed):
    assert head_patching_view(replace(patched, effects=0 * patched.effects)).png
    nothing = replace(attributed, estimates=0 * attributed.estimates, exact=0 * attributed.exact)
    assert "nan" in repr(nothing)
    assert attribution_patching_view(nothing).png
