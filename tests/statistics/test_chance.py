"""p-values from draws, against loops, and how often chance is taken for more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lens_plugin.statistics.chance import family_wise_p, p_values

G = np.random.default_rng(4)


def plain_p(observed: np.ndarray, drawn: np.ndarray) -> list[float]:
    return [(1 + sum(row[h] >= observed[h] for row in drawn)) / (len(drawn) + 1) for h in range(len(observed))]


def plain_family_wise_p(observed: np.ndarray, drawn: np.ndarray) -> list[float]:
    """Westfall and Young's single step, a loop at a time."""
    every = [observed, *drawn]
    columns = [[row[h] for row in every] for h in range(len(observed))]
    standard = [[(x - np.mean(column)) / np.std(column) for x in column] for column in columns]
    greatest = [max(column[i] for column in standard) for i in range(len(every))]
    return [sum(each >= column[0] for each in greatest) / len(every) for column in standard]


def test_they_are_those_of_loops():
    drawn = G.normal(0.5, 0.1, (30, 5)) * [1, 2, 0.1, 1, 1]
    observed = drawn.mean(0) + drawn.std(0) * [0.0, 1.5, 3.0, -1.0, 2.0]
    given = torch.from_numpy(observed), torch.from_numpy(drawn)
    assert p_values(*given).tolist() == pytest.approx(plain_p(observed, drawn))
    assert family_wise_p(*given).tolist() == pytest.approx(plain_family_wise_p(observed, drawn))


def test_the_least_p_is_that_of_one_draw_among_all():
    drawn = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)).double() * 0.1
    observed = torch.tensor([0.9, 0.05, 0.9], dtype=torch.float64)
    for found in (p_values(observed, drawn), family_wise_p(observed, drawn)):
        assert found[0] == found[2] == pytest.approx(1 / 201)
        assert found[1] > 0.2


def test_what_is_equal_in_all_draws_is_no_alarm():
    drawn = torch.full((40, 2), 0.7, dtype=torch.float64)
    drawn[:, 1] = torch.linspace(0.1, 0.6, 40)
    observed = torch.tensor([0.7 + 1e-7, 0.9], dtype=torch.float64)
    assert p_values(observed, drawn).tolist() == [1.0, 1 / 41]
    assert family_wise_p(observed, drawn)[0] == 1.0


def test_one_false_alarm_or_more_among_dependent_statistics_is_as_rare_as_said():
    """8 statistics of different scale that share a part, 19 draws: of 800 families 40 would be alarmed."""
    alarms = 0
    for _ in range(800):
        every = G.normal(size=(20, 8)) + 1.5 * G.normal(size=(20, 1))
        every = np.exp(every * np.linspace(0.2, 1.0, 8)) * 0.1
        alarms += bool((family_wise_p(torch.from_numpy(every[0]), torch.from_numpy(every[1:])) <= 0.05).any())
    assert 24 <= alarms <= 56
