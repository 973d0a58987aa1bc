"""What processes hear of each other, with a board for each in threads of one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from clip_lens_plugin.collection.processes.board import Board, OtherProcessError

WORLD = 3


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Board]]:
    """Those of the first so many of three processes, with 20 signs of life a second, of which 40 may be missed."""
    monkeypatch.setattr("clip_lens_plugin.collection.processes.board.BEAT", 0.05)
    monkeypatch.setattr("clip_lens_plugin.collection.processes.board.MISSED", 40)
    return lambda n: [Board(store, rank, WORLD) for store in [dist.HashStore()] for rank in range(n)]


def each(ask: Callable[[Board], object], every: list[Board]) -> list[object]:
    """What it gives for each board, asked at the same time."""
    with ThreadPoolExecutor(len(every)) as pool:
        return list(pool.map(ask, every))


def test_all_hear_what_each_says_when_all_have_come(boards):
    every = boards(WORLD)
    assert each(lambda board: board.meet(f"word {board._rank}"), every) == [["word 0", "word 1", "word 2"]] * WORLD
    assert each(lambda board: board.meet(), every) == [["", "", ""]] * WORLD
    each(Board.leave, every)
    for board in every:
        board.check()


def test_the_first_failure_is_the_reason_of_all(boards):
    every = boards(WORLD)
    each(lambda board: board.meet(), every)
    every[2].leave_after("the disk is full")
    every[1].leave_after("something that came later")
    with pytest.raises(OtherProcessError, match="Process 2 of 3 stopped: the disk is full"):
        every[0].meet()
    every[0].leave_after("it heard of another")


def test_one_that_never_comes_is_not_waited_for_without_end(boards, monkeypatch):
    monkeypatch.setattr("clip_lens_plugin.collection.processes.board.ARRIVAL", 0.3)
    every = boards(2)
    for board in every:
        with pytest.raises(OtherProcessError, match="Process 2 of 3 did not come within"):
            board.meet()
        board.leave_after("")


def test_one_that_left_well_is_not_missed(boards, monkeypatch):
    monkeypatch.setattr("clip_lens_plugin.collection.processes.board.MISSED", 3)
    every = boards(WORLD)
    each(lambda board: board.meet(), every)
    for board in every[1:]:
        board.leave()
    time.sleep(0.6)
    every[0].check()
    every[0].leave()
