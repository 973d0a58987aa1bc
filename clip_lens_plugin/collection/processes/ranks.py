"""The processes that collect together: one, or those that torchrun started."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from clip_lens_plugin.collection.processes import board as boards
from clip_lens_plugin.collection.processes.board import Board, OtherProcessError

T = TypeVar("T")

PIECE = 2**24
"""Bytes that are sent at once, for each of which :data:`PATIENCE` is."""

PATIENCE = timedelta(seconds=50)

_CALLS = itertools.count()
"""Of :meth:`Ranks.together`, as many in each process, so that what was said in one is not heard in the next."""

_TOGETHER: list[Ranks] = []


@dataclass(frozen=True)
class Ranks:
    """This process's number among ``world`` of them, and their board while they are together."""

    rank: int = 0
    world: int = 1
    _board: Board | None = field(default=None, compare=False, repr=False)

    @classmethod
    def current(cls) -> Ranks:
        """The ranks of the initialised torch.distributed group, or a single process."""
        if _TOGETHER:
            return _TOGETHER[-1]
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @classmethod
    @contextmanager
    def together(cls) -> Iterator[Ranks]:
        """Inside, what ends one process ends the others within a minute, each with the reason; as often as nested.

        Raises:
            OtherProcessError: from any of the methods, if another process failed or is gone.
        """
        ranks = cls.current()
        if ranks.world == 1 or _TOGETHER:
            yield ranks
            return
        everyones = dist.distributed_c10d._get_default_store()
        store = dist.PrefixStore(f"clip_lens_plugin/{next(_CALLS)}", everyones)  # type: ignore[reportPrivateImportUsage]
        board = Board(store, ranks.rank, ranks.world)
        _TOGETHER.append(cls(ranks.rank, ranks.world, board))
        try:
            yield _TOGETHER[-1]
        except BaseException as error:
            board.leave_after(_reason(error))
            raise
        else:
            board.leave()
        finally:
            _TOGETHER.pop()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes what exists once, and speaks."""
        return self.rank == 0

    def check(self) -> None:
        """Nothing, if all processes are well; cheap, to be called between batches.

        Raises:
            OtherProcessError: if one failed or is gone.
        """
        if self._board is not None:
            self._board.check()

    def first_does(self, action: Callable[[], T]) -> T:
        """What ``action``, run in rank 0 while the others wait, gave: anything that JSON holds.

        Raises:
            OtherProcessError: in the others, if it raised in rank 0.
        """
        if self._board is None:
            return action()
        result = action() if self.is_first else None
        return json.loads(self._board.meet(json.dumps(result) if self.is_first else "")[0])

    def wait(self) -> None:
        """Until every process is here."""
        if self._board is not None:
            self._board.meet()

    def say(self, mine: str) -> list[str]:
        """What each process says, by rank."""
        return [mine] if self._board is None else self._board.meet(mine)

    def gather(self, mine: Callable[[], dict[str, Tensor]], take: Callable[[dict[str, Tensor]], None]) -> None:
        """Rank 0 takes the tensors of each other rank, one rank after another, so that it holds one more at a time.

        They pass from main memory to main memory, so that gloo serves machines with GPUs as well.

        Args:
            mine: makes those of this process, if it is not rank 0.
            take: is given those of another, in rank 0.
        """
        board = self._board
        if board is None:
            return
        board.meet()
        group = cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=PATIENCE))
        try:
            if not self.is_first:
                board.hear(f"turn of {self.rank}")
                _send(mine(), self.rank, board, group)
            for rank in range(1, self.world) if self.is_first else ():
                board.say(f"turn of {rank}", "")
                take(_received(rank, board, group))
        finally:
            dist.destroy_process_group(group)


def _send(tensors: dict[str, Tensor], rank: int, board: Board, group: dist.ProcessGroup) -> None:
    board.say(f"tensors of {rank}", json.dumps({name: (list(x.shape), str(x.dtype)) for name, x in tensors.items()}))
    with _broken_connections(board):
        for tensor in tensors.values():
            for piece in _pieces(tensor.detach().cpu().contiguous()):
                dist.send(piece, 0, group=group)


def _received(rank: int, board: Board, group: dist.ProcessGroup) -> dict[str, Tensor]:
    received = {}
    for name, (shape, dtype) in json.loads(board.hear(f"tensors of {rank}")).items():
        tensor = torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")), device="cpu")
        with _broken_connections(board):
            for piece in _pieces(tensor):
                dist.recv(piece, rank, group=group)
        received[name] = tensor
    return received


def _pieces(tensor: Tensor) -> list[Tensor]:
    """Views of a tensor's bytes."""
    return [piece for piece in tensor.reshape(-1).view(torch.uint8).split(PIECE) if len(piece)]


@contextmanager
def _broken_connections(board: Board) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # What gloo raises.
        board.check()
        raise OtherProcessError("The connection broke while sums were sent to process 0.") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted."
    if isinstance(error, SystemExit | GeneratorExit):
        return f"it ended with exit code {getattr(error, 'code', None)}."
    return " ".join(str(error).split())[:1000] or type(error).__name__


def started_by_torchrun() -> bool:
    """Whether torchrun set this process's rank."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def joined() -> Iterator[str | None]:
    """Joins the processes that torchrun started, if it did.

    Yields the device of this process, "cuda:N" by its local rank, or None where there is no choice to make.
    """
    if not started_by_torchrun() or dist.is_initialized():
        yield None
        return
    device = None
    if torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("gloo", timeout=timedelta(seconds=boards.ARRIVAL))
    try:
        yield device
    finally:
        dist.destroy_process_group()
