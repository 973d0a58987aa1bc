"""Arguments: what is right comes back, what is wrong is named together with what was expected."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lens_plugin.arguments import (
    checked_choice,
    checked_heads,
    checked_index,
    checked_indices,
    checked_labels,
    checked_number,
    checked_pair,
    whole_numbers,
)


def test_choice():
    assert checked_choice("effect", "total", ("direct", "total")) == "total"
    with pytest.raises(ValueError, match=r"^effect must be 'direct' or 'total', got 'Direct'\.$"):
        checked_choice("effect", "Direct", ("direct", "total"))
    with pytest.raises(ValueError, match=r"must be 'a', 'b' or 'c', got None"):
        checked_choice("x", None, ("a", "b", "c"))
    with pytest.raises(ValueError, match=r"must be 'only', got \['only'\]"):
        checked_choice("x", ["only"], ("only",))


@pytest.mark.parametrize("given", [0, -1, 1.0, True, "3", None])
def test_number(given):
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1"):
        checked_number("batch_size", given)
    assert checked_number("batch_size", np.int64(3)) == 3


def test_index_counts_from_the_end():
    assert [checked_index("head", i, 4) for i in (0, 3, -1, -4)] == [0, 3, 3, 0]
    for wrong in (4, -5):
        with pytest.raises(IndexError, match=f"There is no head {wrong}: there are 4"):
            checked_index("head", wrong, 4)
    for wrong in (1.0, True, "1", None):
        with pytest.raises(ValueError, match="must be a whole number"):
            checked_index("head", wrong, 4)


@pytest.mark.parametrize(
    "given",
    [
        [0, -1],
        torch.tensor([0, 4]),
        np.array([0, -1], dtype=np.int32),
        [True, False, False, False, True],
        slice(0, 5, 4),
    ],
)
def test_indices(given):
    assert checked_indices("row", given, 5).tolist() == [0, 4]


def test_a_slice_may_run_backwards():
    assert checked_indices("row", slice(None, None, -2), 5).tolist() == [4, 2, 0]
    assert checked_indices("row", slice(-2, 99), 5).tolist() == [3, 4]
    with pytest.raises(ValueError, match="A slice of rows runs from and to whole numbers"):
        checked_indices("row", slice(0.5, None), 5)


@pytest.mark.parametrize("given", [(3, 4), [np.int64(3), 4], torch.tensor([3, 4])])
def test_pair(given):
    assert checked_pair("grid_size", given) == (3, 4)
    for wrong in (3, (3,), (3, 4, 5), "34", None):
        with pytest.raises(ValueError, match="grid_size must be two whole numbers"):
            checked_pair("grid_size", wrong)
    for wrong in ((3, 0), (1.5, 2), (True, 2)):
        with pytest.raises(ValueError, match="Each of grid_size must be a whole number of at least 1"):
            checked_pair("grid_size", wrong)


def test_heads():
    assert checked_heads([(0, -1), (-1, 0), (0, 3)], 3, 4) == [(0, 3), (2, 0)]
    assert checked_heads(torch.tensor(-1), 3, 4) == [(2, 0), (2, 1), (2, 2), (2, 3)]
    for wrong in ((0, 1), "late", None, 1.0, [], [(0, 1, 2)]):
        with pytest.raises(ValueError, match="heads must"):
            checked_heads(wrong, 3, 4)
    with pytest.raises(IndexError, match="no layer 3, head 0: there are layers 0 to 2 and heads 0 to 3"):
        checked_heads([(3, 0)], 3, 4)


def test_numbers_in_tensors_are_numbers():
    assert checked_number("k", torch.tensor(2)) == checked_index("row", np.array(-1), 3) == 2
    assert whole_numbers("heads", torch.tensor([0, 3])) == [0, 3]
    for wrong in (torch.tensor(2.0), torch.tensor(True), torch.tensor([2])):
        with pytest.raises(ValueError, match="must be a whole number"):
            checked_number("k", wrong)


def test_indices_refused():
    assert checked_indices("row", [], 5).shape == (0,)
    for wrong in ([5], [-6]):
        with pytest.raises(IndexError, match=f"There is no row {wrong[0]}"):
            checked_indices("row", wrong, 5)
    with pytest.raises(IndexError, match="The mask has 2 values, there are 5 rows"):
        checked_indices("row", [True, False], 5)
    for wrong in ([0.5], 3, [[1]], "abc"):
        with pytest.raises(ValueError, match="Positions of rows are"):
            checked_indices("row", wrong, 5)


def test_whole_numbers():
    assert whole_numbers("heads", None) is None
    assert whole_numbers("heads", (1, np.int64(2))) == [1, 2]
    for wrong in (3, [True], [1.0], "12"):
        with pytest.raises(ValueError, match="heads must be whole numbers in a list"):
            whole_numbers("heads", wrong)


def test_labels():
    assert checked_labels([0, -1, 2], 3, 3).tolist() == [0, -1, 2]
    for wrong, message in (
        (torch.tensor([0.0, 1.0]), "whole numbers"),
        (torch.tensor([True, False]), "whole numbers"),
        ([0, 1, 2], "2 images need as many labels, got 3"),
        ([0, 3], "0 to 2, or -1"),
        ([0, -2], "0 to 2, or -1"),
    ):
        with pytest.raises(ValueError, match=message):
            checked_labels(wrong, 2, 3)
