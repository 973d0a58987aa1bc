"""The processes that collect together: one, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a rank that has finished waits for the others."""


@dataclass(frozen=True)
class Ranks:
    """This process's number among ``world`` of them."""

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """Of the initialised torch.distributed group, or a single process."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes what exists once, and speaks."""
        return self.rank == 0

    def first_does(self, action: Callable[[], T]) -> T | None:
        """Runs ``action`` in rank 0, whose result is returned there, while the others wait.

        Raises:
            ValueError: in every rank, with its message, what it raised in rank 0.
        """
        if self.world == 1:
            return action()
        result, told = None, [""]
        if self.is_first:
            try:
                result = action()
            except (ValueError, OSError) as error:
                told = [str(error) or type(error).__name__]
        dist.broadcast_object_list(told, src=0)
        if told[0]:
            raise ValueError(told[0])
        return result

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()

    def gather(self, mine: T) -> list[T]:
        """Everyone's, by rank, in every process."""
        if self.world == 1:
            return [mine]
        everyones: list[Any] = [None] * self.world
        dist.all_gather_object(everyones, mine)
        return everyones


def started_by_torchrun() -> bool:
    """Whether torchrun set this process's rank."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def joined() -> Iterator[str | None]:
    """Joins the processes that torchrun started, if it did.

    Only sums and messages pass between them, from main memory, so gloo serves machines with GPUs as well.

    Yields the device of this process, "cuda:N" by its local rank, or None where there is no choice to make.
    """
    if not started_by_torchrun() or dist.is_initialized():
        yield None
        return
    device = None
    if torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()
