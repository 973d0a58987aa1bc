"""Views of a spurious cue hold its numbers: shares of groups, effects of heads, and what chance gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clip_lens_plugin import GroupEffects, SpuriousHeads
from clip_lens_plugin.groups.chance import CueChance
from clip_lens_plugin.groups.spurious.accuracy import GroupAccuracy
from clip_lens_plugin.groups.spurious.control import Control
from clip_lens_plugin.views import group_effects_view, spurious_heads_view
from clip_lens_plugin.views.heads.groups import cue_grid_view
from tests.views.report.test_summaries import cells

COMPONENTS = (("embed", None, None), *(("head", l, h) for l in range(2) for h in range(2)), ("ln_bias", None, None))


@pytest.fixture
def effects() -> GroupEffects:
    means = np.zeros((4, 6))
    means[[1, 3], 2] = 0.2, 0.4
    means[[2, 3], 4] = 0.1
    means[:, 0] = -0.05
    family_p = np.array([1.0, 0.9, 0.01, 0.8, 0.7, 1.0])
    chance = CueChance(99, np.full(6, 0.05), family_p / 2, family_p)
    return GroupEffects(("land <b>", "water"), ("dry", "wet"), (9, 3, 4, 8), COMPONENTS, means, means.sum(1), chance)


@pytest.fixture
def found(effects) -> SpuriousHeads:
    number = np.repeat(np.arange(4), (10, 10, 10, 10))
    margins = np.where(number >= 2, 1.0, -1.0)
    before = margins.copy()
    before[10:14] *= -1
    shares = GroupAccuracy.of("before", before, number), GroupAccuracy.of("direct", margins, number)
    chance = Control.of([0.5, 0.7, 1.0], 1.0), Control.of([0.6], 1.0)
    rows = {"means": tuple(range(5)), "validation": tuple(range(5, 11)), "test": tuple(range(11, 51))}
    return SpuriousHeads(((0, 1),), shares, *chance, effects, rows, True)


def test_effects_are_grids_and_a_table(effects):
    view = group_effects_view(effects)
    rows = cells(view.body)[1:]
    assert rows[0] == ["whole margin", "", "", "+0.20", "+0.30", "+0.10", "", "", ""]
    assert rows[1] == ["head", "0", "1", "+0.10", "+0.30", "+0.10", "5.0e-02", "0.005", "0.010"]
    assert "below 0.05 for 1 of 4 heads" in view.body
    assert "land &lt;b&gt;" in view.body
    assert "land <b>" not in view.body
    figure = view.figure()
    core, cue = (axes.images[0].get_array() for axes in figure.axes[::2])
    np.testing.assert_allclose(core, [[0, 0.1], [0, 0.1]])
    np.testing.assert_allclose(cue, [[0, 0.3], [0, 0]])


def test_a_grid_of_cells_has_each_head_over_its_p(effects):
    body = cue_grid_view(effects).body
    assert 'title="layer 0, head 1: +0.30"' in body
    assert "p 0.010" in body
    assert "p 0.700" in body
    without = replace(effects, chance=CueChance(0, *(np.full(6, np.nan) for _ in range(3))))
    assert "p 0" not in cue_grid_view(without).body
    assert cells(group_effects_view(without).body)[1] == ["whole margin", "", "", "+0.20", "+0.30", "+0.10"]


def test_shares_stand_beside_chance(found):
    view = spurious_heads_view(found)
    rows = cells(view.body)
    assert rows[0] == [
        "right answers (%)", "worst group", "average",
        "land &lt;b&gt;, dry (10)", "land &lt;b&gt;, wet (10)", "water, dry (10)", "water, wet (10)",
    ]  # fmt: skip
    assert rows[1][0] == "nothing removed"
    assert rows[1][1].startswith("60.0 (")
    assert rows[2][1].startswith("100.0 (")
    assert "L0H1" in view.body
    assert rows[3][:2] == ["3 random sets of as many other heads", "73.3, at best 100.0; p = 0.500"]
    assert rows[4][:2] == ["1 searches with permuted cues", "60.0, at best 60.0; p = 0.500"]
    figure = view.figure()
    chart, grid = figure.axes[0], figure.axes[-2]
    points = [tuple(line.get_ydata()) for line in chart.get_lines()]
    assert (60.0,) in points
    assert (50.0, 70.0, 100.0) in points
    assert len(grid.patches) == 1
    assert grid.patches[0].get_xy() == pytest.approx((0.53, -0.45))
