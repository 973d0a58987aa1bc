"""Intervals of shares against Wilson's formula, and of paired differences against how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from clip_lens_plugin.statistics.intervals import Interval, paired_interval, share_interval


@pytest.mark.parametrize(("right", "n"), [(30, 100), (199, 250), (3, 8), (0, 5), (5, 5)])
def test_ends_are_the_shares_that_are_just_not_refused(right, n):
    for end in share_interval(right, n):
        # Wilson: of a true share p, right / n is 1.96 standard deviations of p away.
        assert (right / n - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / n, abs=1e-6)


def test_interval_narrows_as_the_root_of_the_number():
    low, high = share_interval(np.array([300, 30_000]), np.array([1_000, 100_000]))
    widths = high - low
    assert widths[0] == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 1_000), rel=0.1)
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.1)


def test_arrays_hold_what_each_share_has_alone():
    right, n = np.array([[3, 0], [7, 3]]), np.array([[9, 5], [7, 9]])
    low, high = share_interval(right, n)
    assert low.shape == high.shape == (2, 2)
    for i, j in np.ndindex(2, 2):
        assert (low[i, j], high[i, j]) == share_interval(int(right[i, j]), int(n[i, j]))
    assert (low[0, 0], high[0, 0]) == (low[1, 1], high[1, 1])
    np.testing.assert_array_equal(share_interval(np.array([1, 2]), 4)[0], share_interval(np.array([1, 2]), 4)[0])
    assert share_interval(np.array([1, 2]), 4)[1].shape == (2,)
    assert share_interval(np.array([], dtype=int), 4)[0].shape == (0,)


def test_nothing_counted_is_nan_and_certainty_has_a_width():
    assert np.isnan(share_interval(0, 0)).all()
    low, high = share_interval(np.array([0, 0, 4]), np.array([0, 4, 4]))
    assert (np.isnan(low[0]), low[1], high[2]) == (True, 0, 1)
    assert np.isnan(high[0])
    # z² / (n + z²), of four images.
    assert high[1] == pytest.approx(0.489896, abs=1e-5)
    assert low[2] == pytest.approx(1 - 0.489896, abs=1e-5)


def test_of_share_holds_plain_numbers():
    interval = Interval.of_share(3, 4)
    assert interval.value == 0.75
    assert (interval.low, interval.high) == share_interval(3, 4)
    assert type(interval.low) is float
    assert np.isnan(Interval.of_share(0, 0).value)


@pytest.mark.parametrize(("right", "n"), [(5, 4), (-1, 4), (0, -1)])
def test_impossible_counts_are_refused(right, n):
    with pytest.raises(ValueError, match=f"got {right} of n = {n}"):
        share_interval(right, n)
    with pytest.raises(ValueError, match=f"got {right} of n = {n}"):
        share_interval(np.array([1, right]), np.array([1, n]))


@pytest.mark.parametrize(("n", "gains", "losses"), [(40, 0.05, 0.2), (200, 0.02, 0.3), (1000, 0.1, 0.12)])
def test_paired_interval_holds_the_true_difference_as_often_as_it_says(n, gains, losses):
    counts = np.random.default_rng(0).multinomial(n, [gains, losses, 1 - gains - losses], 20_000)
    low, high = paired_interval(counts[:, 0], counts[:, 1], n)
    assert ((low <= gains - losses) & (gains - losses <= high)).mean() == pytest.approx(0.95, abs=0.02)


def test_paired_interval_is_narrower_than_two_side_by_side_and_holds_the_difference():
    gained, lost, n = np.array([2, 0, 50]), np.array([10, 0, 50]), 100
    low, high = paired_interval(gained, lost, n)
    assert ((low <= (gained - lost) / n) & ((gained - lost) / n <= high)).all()
    before, after = share_interval(80, n), share_interval(72, n)
    assert high[0] - low[0] < (before[1] - before[0]) + (after[1] - after[0])
    assert high[1] - low[1] < high[0] - low[0] < high[2] - low[2]
    np.testing.assert_allclose(paired_interval(lost, gained, n), (-high, -low))


def test_impossible_pairs_are_refused():
    for gained, lost, n in ((3, 2, 4), (-1, 0, 4), (0, 0, 0)):
        with pytest.raises(ValueError, match=f"Of n = {n} images"):
            paired_interval(np.array([gained]), np.array([lost]), n)
