"""Which heads are removed, on made-up effects: the fewest in the sum, more in runs, and what chance is drawn from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from clip_lens_plugin.decisions.decision import named
from clip_lens_plugin.decisions.removal import MOST_REMOVED, Head, Question, random_others, removals

ASKED = Question(("A", "B", "C"), torch.eye(3), (0, 1), 1.0, 1e-6)
REMOVED = torch.zeros(4, 8, dtype=torch.float64)
REMOVED[2, 3], REMOVED[0, 1], REMOVED[3, 7], REMOVED[1, 1] = 0.7, 0.4, 0.2, -5.0


class World:
    """Runs in which each head does a part of what it does in the sum.

    Attributes:
        ran: the sets of heads that were removed.
    """

    def __init__(self, part: float, removed: torch.Tensor = REMOVED) -> None:
        self.part, self.removed, self.ran = part, removed, []

    def __call__(self, heads: Sequence[Head]) -> torch.Tensor:
        self.ran.append(tuple(heads))
        gap = 1.0 - self.part * float(sum(self.removed[head] for head in heads))
        return torch.tensor([gap, 0.0, 0.2], dtype=torch.float64)


def test_the_fewest_that_flip_the_sum_are_verified() -> None:
    (found,) = removals(ASKED, REMOVED, World(1.0), 4, 0)
    assert found.heads == ((2, 3), (0, 1))
    assert (found.found, found.flips, found.nearest) == ("table", True, "C")
    assert (found.direct, found.total) == pytest.approx((-0.1, -0.1))
    assert len(found.random) == 4
    assert found.random_flips == 0


def test_more_are_removed_where_the_run_does_not_flip() -> None:
    world = World(0.8)
    table, run = removals(ASKED, REMOVED, world, 0, 0)
    assert (table.heads, table.flips, table.found) == (((2, 3), (0, 1)), False, "table")
    assert (run.heads, run.flips, run.found) == (((2, 3), (0, 1), (3, 7)), True, "run")
    assert (run.direct, run.total) == pytest.approx((-0.3, -0.04))
    assert all((1, 1) not in heads for heads in world.ran)


def test_where_nothing_flips_that_is_the_result() -> None:
    table, neither = removals(ASKED, REMOVED, World(0.1), 0, 0)
    assert (table.flips, neither.flips, neither.found) == (False, False, "neither")
    assert len(neither.heads) == 3  # No other speaks for the answer.
    (late,) = removals(ASKED, REMOVED / 2, World(3.0, REMOVED / 2), 0, 0)
    assert (late.found, late.flips, late.direct) == ("run", True, pytest.approx(0.65))
    assert removals(ASKED, -REMOVED.abs(), World(1.0), 0, 0) == ()


def test_no_more_than_twenty_are_removed() -> None:
    small = torch.full((4, 8), 0.01, dtype=torch.float64)
    world = World(1.0, small)
    (found,) = removals(ASKED, small, world, 0, 0)
    assert (len(found.heads), found.found) == (MOST_REMOVED, "neither")
    assert max(map(len, world.ran)) == MOST_REMOVED
    twenty = torch.full((4, 8), 0.051, dtype=torch.float64)
    (found,) = removals(ASKED, twenty, World(0.5, twenty), 0, 0)
    assert (len(found.heads), found.found, found.flips) == (MOST_REMOVED, "table", False)


def test_a_gap_of_rounding_is_no_flip() -> None:
    exact = torch.zeros(4, 8, dtype=torch.float64)
    exact[0, 0] = 1.0 + 1e-8
    (found,) = removals(ASKED, exact, World(1.0, exact), 0, 0)
    assert (found.found, found.flips) == ("neither", False)
    behind = Question(ASKED.names, ASKED.embeddings, (0, 1), -1.0, 1e-6)
    assert behind.is_flipped(0.1)
    assert not behind.is_flipped(-0.1)


def test_random_others_are_of_the_same_layers_as_far_as_there_are_any() -> None:
    heads = [(1, 0), (1, 1), (3, 2)]
    sets = random_others(heads, 4, 4, 50, seed=1)
    for each in sets:
        assert len(set(each)) == 3
        assert not set(each) & set(heads)
        assert [layer for layer, _ in each] == [1, 1, 3]
    assert len(set(sets)) > 5
    assert sets == random_others(heads, 4, 4, 50, seed=1)
    whole = [(2, head) for head in range(4)]
    assert {layer for each in random_others(whole, 4, 4, 20, 0) for layer, _ in each} == {1, 3}
    assert random_others([*whole, (0, 0)], 2 + 1, 2, 5, 0) == []


def test_heads_in_a_sentence() -> None:
    assert named([(3, 7)]) == "L3H7"
    assert named([(3, 7), (0, 1)]) == "L3H7 and L0H1"
    assert named([(0, head) for head in range(8)]) == "L0H0, L0H1, L0H2, L0H3, L0H4, L0H5 and 2 more"
