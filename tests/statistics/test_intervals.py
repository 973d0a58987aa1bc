"""Bootstrap intervals of shares against a bootstrap that draws the images themselves."""

from __future__ import annotations

import numpy as np
import pytest

from clip_lens_plugin.statistics.intervals import Interval, bootstrap_interval


@pytest.mark.parametrize(("right", "n"), [(30, 100), (199, 250), (3, 8)])
def test_interval_is_that_of_images_drawn_again(right, n):
    answers = np.arange(n) < right
    shares = np.random.default_rng(1).choice(answers, (20_000, n)).mean(1)
    expected = np.percentile(shares, [2.5, 97.5])
    spread = np.sqrt(right / n * (1 - right / n) / n)
    # A percentile of 2,000 draws has a standard error of about 0.06 of the spread, and shares have steps of 1 / n.
    np.testing.assert_allclose(bootstrap_interval(right, n), expected, atol=max(0.25 * spread, 1.01 / n))


def test_interval_narrows_as_the_root_of_the_number():
    low, high = bootstrap_interval(np.array([300, 30_000]), np.array([1_000, 100_000]))
    widths = high - low
    assert widths[0] == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 1_000), rel=0.1)
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.1)


def test_arrays_hold_what_each_share_has_alone():
    right, n = np.array([[3, 0], [7, 3]]), np.array([[9, 5], [7, 9]])
    low, high = bootstrap_interval(right, n)
    assert low.shape == high.shape == (2, 2)
    for i, j in np.ndindex(2, 2):
        assert (low[i, j], high[i, j]) == bootstrap_interval(int(right[i, j]), int(n[i, j]))
    assert (low[0, 0], high[0, 0]) == (low[1, 1], high[1, 1])
    np.testing.assert_array_equal(
        bootstrap_interval(np.array([1, 2]), 4)[0], bootstrap_interval(np.array([1, 2]), 4)[0]
    )
    assert bootstrap_interval(np.array([1, 2]), 4)[1].shape == (2,)
    assert bootstrap_interval(np.array([], dtype=int), 4)[0].shape == (0,)


def test_nothing_counted_is_nan_and_certainty_has_no_width():
    assert np.isnan(bootstrap_interval(0, 0)).all()
    low, high = bootstrap_interval(np.array([0, 0, 4]), np.array([0, 4, 4]))
    np.testing.assert_array_equal(low, [np.nan, 0, 1])
    np.testing.assert_array_equal(high, [np.nan, 0, 1])


def test_of_share_holds_plain_numbers():
    interval = Interval.of_share(3, 4)
    assert interval.value == 0.75
    assert (interval.low, interval.high) == bootstrap_interval(3, 4)
    assert type(interval.low) is float
    assert np.isnan(Interval.of_share(0, 0).value)


@pytest.mark.parametrize(("right", "n"), [(5, 4), (-1, 4), (0, -1)])
def test_impossible_counts_are_refused(right, n):
    with pytest.raises(ValueError, match=f"got {right} of n = {n}"):
        bootstrap_interval(right, n)
    with pytest.raises(ValueError, match=f"got {right} of n = {n}"):
        bootstrap_interval(np.array([1, right]), np.array([1, n]))
