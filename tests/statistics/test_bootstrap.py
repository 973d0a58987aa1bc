"""Bootstrap samples and their percentiles."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clip_lens_plugin.statistics.bootstrap import bootstrap_counts, percentile_interval


def test_samples_are_of_as_many_groups_and_the_same_for_the_same_seed() -> None:
    counts = bootstrap_counts(7, seed=3, draws=500)
    assert (counts.sum(1) == 7).all()
    assert np.array_equal(counts, bootstrap_counts(7, seed=3, draws=500))
    assert counts.mean() == 1.0
    assert counts.var() == pytest.approx(1 - 1 / 7, rel=0.1)  # of a binomial of 7 draws at 1 in 7


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = percentile_interval(bootstrap_counts(400, seed=1, draws=2000) @ values / 400)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_unknown_values_are_left_out() -> None:
    assert percentile_interval(np.array([np.nan, 2.0, 2.0])) == (2.0, 2.0)
    assert all(math.isnan(each) for each in percentile_interval(np.array([np.nan])))
