"""Cue effects by chance: their variance in closed form, p by counting all permutations, planted heads beside it."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from clip_lens_plugin import group_effects
from clip_lens_plugin.groups.chance import CueChance
from tests.groups.conftest import CUES

PARTS = ["embed", "head", "head", "head"]


def drawn(sizes: tuple[int, int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values of four components, with three images of no group among them."""
    rng = np.random.default_rng(seed)
    number = rng.permutation([*np.repeat(np.arange(4), sizes), -1, -1, -1])
    return rng.standard_normal((len(number), 4)) * [5.0, 1.0, 2.0, 0.5] + number[:, None] * 0.3, number


def effect(values: np.ndarray, seconds: list[set[int]], rows: list[list[int]]) -> np.ndarray:
    """The cue effect where ``seconds`` are the images of each class with the second cue."""
    differences = []
    for second, of_class in zip(seconds, rows, strict=True):
        with_it, without = ([row for row in of_class if (row in second) == is_it] for is_it in (True, False))
        differences.append(values[with_it].mean(0) - values[without].mean(0))
    return (differences[0] + differences[1]) / 2


def test_the_typical_effect_is_that_of_sampling_without_replacement():
    """Var = ¼ Σ_y s_y² (1 / n_y0 + 1 / n_y1)."""
    sizes = (30, 12, 9, 41)
    values, number = drawn(sizes)
    found = CueChance.of(values, number, PARTS, np.zeros(4), 4000, 1)
    expected = sum(
        values[number // 2 == y].var(0, ddof=1) * (1 / sizes[2 * y] + 1 / sizes[2 * y + 1]) / 4 for y in (0, 1)
    )
    np.testing.assert_allclose(found.typical, np.sqrt(expected), rtol=0.05)
    np.testing.assert_array_equal(found.p, 1.0)


def test_p_is_the_share_of_all_permutations_that_are_as_great():
    values, number = drawn((3, 2, 2, 3), seed=5)
    rows = [np.flatnonzero(number // 2 == y).tolist() for y in (0, 1)]
    ours = effect(values, [set(np.flatnonzero(number == 2 * y + 1).tolist()) for y in (0, 1)], rows)
    every = np.array(
        [
            effect(values, [set(first), set(second)], rows)
            for first, second in product(combinations(rows[0], 2), combinations(rows[1], 3))
        ]
    )
    as_great = np.abs(every) >= np.abs(ours) - 1e-12
    heads = np.abs(every[:, 1:]).max(1)
    family = [as_great[:, 0].mean(), *((heads >= abs(each) - 1e-12).mean() for each in ours[1:])]
    found = CueChance.of(values, number, PARTS, ours, 5000, 2)
    np.testing.assert_allclose(found.p, as_great.mean(0), atol=0.02)
    np.testing.assert_allclose(found.family_p, family, atol=0.02)
    assert (found.family_p >= found.p).all()


def test_planted_heads_stand_out_and_no_other_does(spurious, texts, grouped):
    found = group_effects(spurious, texts, grouped)
    p = found.heads_by_chance("family_p")
    assert {tuple(map(int, at)) for at in np.argwhere(p < 0.05)} == set(CUES)
    assert found.heads_by_chance("p")[CUES[0]] == pytest.approx(1 / 201)
    table = found.to_dataframe()
    np.testing.assert_array_equal(table["cue_family_p"], found.chance.family_p)
    assert "L1H1" in repr(found)
    assert "(p 0.005)" in repr(found)
    with pytest.raises(ValueError, match="one of typical, p, family_p, got 'P'"):
        found.heads_by_chance("P")


def test_without_permutations_there_is_no_chance(spurious, texts, grouped):
    found = group_effects(spurious, texts, grouped, permutations=0)
    assert found.chance.turns == 0
    assert np.isnan(found.chance.family_p).all()
    assert "(p " not in repr(found)
    with pytest.raises(ValueError, match="permutations must be a whole number of at least 0, got -1"):
        group_effects(spurious, texts, grouped, permutations=-1)


def test_the_seed_draws_the_permutations(spurious, texts, grouped):
    first, again, other = (group_effects(spurious, texts, grouped, seed=seed).chance.typical for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
