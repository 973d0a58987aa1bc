"""Where processes that collect together leave word: that they live, how far they are, what went wrong."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")

BEAT = 2.0
"""Seconds between two signs of life."""

MISSED = 15
"""Signs of life in a row that a process may miss before it is taken for dead."""

ARRIVAL = 30 * 60.0
"""Seconds in which all processes have to come together: one may load its model much slower than another."""

LOST = "The processes have lost each other: the one that keeps them together ended, or the network is down."


class OtherProcessError(ConnectionError):
    """Another of the processes that collect together failed or is gone."""


class Board:
    """Words under keys that every process sees, and a thread that gives a sign of life however long the work takes.

    Process 0 watches all others and they watch process 0, so that the cost grows with their number and no faster.
    What was missed is counted in looks at the board, not in seconds: a job that was suspended as a whole goes on.
    The thread alone speaks with the store, since a call may hang when the network does.
    """

    def __init__(self, store: dist.Store, rank: int, world: int) -> None:  # type: ignore[reportPrivateImportUsage]
        self._store, self._rank, self._world = store, rank, world
        self._failure: str | None = None
        self._stages = 0
        self._looked = time.monotonic()
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._live, name="signs of life", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Nothing, if all is well.

        Raises:
            OtherProcessError: if another process failed or is gone.
        """
        if self._failure is None and self._is_late():
            time.sleep(2 * BEAT)  # After all processes were suspended, the thread has yet to look.
            if self._failure is None and self._is_late():
                self._failure = LOST
        if self._failure is not None:
            raise OtherProcessError(self._failure)

    def meet(self, word: str = "") -> list[str]:
        """What each process says, by rank, when all have come here; living ones may take as long as they like."""
        self._stages += 1
        stage = f"stage {self._stages}"
        self.say(f"{stage}, {self._rank}", word)
        if self._ask(lambda: self._store.add(f"{stage}, here", 1)) == self._world:
            self.say(f"{stage}, all", "")
        self.hear(f"{stage}, all")
        return [self.hear(f"{stage}, {rank}") for rank in range(self._world)]

    def say(self, key: str, word: str) -> None:
        """Leaves a word for the others."""
        self._ask(lambda: self._store.set(key, word))

    def hear(self, key: str) -> str:
        """The word under a key, waited for as long as all processes live.

        Raises:
            OtherProcessError: if another process failed or is gone.
        """
        pause = 0.01
        while not self._ask(lambda: self._store.check([key])):
            time.sleep(pause)
            pause = min(0.25, 1.5 * pause)
        return self._ask(lambda: self._store.get(key)).decode()

    def leave(self) -> None:
        """Ends well; process 0, which may keep the board, waits for the others to have left too."""
        try:
            self.say(f"left, {self._rank}", "")
            while self._rank == 0 and not self._ask(lambda: self._all_said("left")):
                time.sleep(0.02)
        except OtherProcessError:
            pass  # All was done.
        finally:
            self._asked.put(None)

    def leave_after(self, reason: str) -> None:
        """Ends with a failure, of which the others hear if it is the first; not before they have, or are gone."""
        try:
            if self._failure is None:
                self._put(lambda: self._tell(f"Process {self._rank} of {self._world} stopped: {reason}")).result(BEAT)
            elif self._rank != 0 or self._failure == LOST:
                return
            end = time.monotonic() + 3 * BEAT
            while time.monotonic() < end and not self._put(lambda: self._all_said("heard")).result(BEAT):
                time.sleep(0.02)
        except (TimeoutError, RuntimeError):
            pass  # The others find out that this process is gone.
        finally:
            self._asked.put(None)

    def _all_said(self, word: str) -> bool:
        return self._store.check([f"{word}, {rank}" for rank in range(self._world) if rank != self._rank])

    def _is_late(self) -> bool:
        return time.monotonic() - self._looked > (MISSED + 2) * BEAT

    def _put(self, question: Callable[[], T]) -> Future[T]:
        """What the thread will find."""
        found: Future[T] = Future()

        def answer() -> None:
            try:
                found.set_result(question())
            except BaseException as error:  # It is raised in the thread that asked.
                found.set_exception(error)

        self._asked.put(answer)
        return found

    def _ask(self, question: Callable[[], T]) -> T:
        """What the thread finds."""
        self.check()
        found = self._put(question)
        while True:
            try:
                return found.result(timeout=BEAT / 4)
            except TimeoutError:
                self.check()
            except RuntimeError as error:  # What torch's stores raise.
                self.check()
                raise OtherProcessError(LOST) from error

    # ------------------------------------------------------------------ in the thread

    def _live(self) -> None:
        watched = [other for other in range(self._world) if (self._rank == 0) != (other == 0)]
        seen: dict[int, bytes] = {}
        missed = dict.fromkeys(watched, 0)
        beats, due = 0, 0.0
        while True:
            try:
                if time.monotonic() >= due:
                    beats, due = beats + 1, time.monotonic() + BEAT
                    self._store.set(f"beat, {self._rank}", str(beats))
                    self._failure = self._failure or self._reported() or self._gone(watched, seen, missed)
                    self._looked = time.monotonic()
            except RuntimeError:
                self._failure = self._failure or LOST
            try:
                answer = self._asked.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                continue
            if answer is None:
                return
            answer()

    def _reported(self) -> str | None:
        if not self._store.check(["failed"]):
            return None
        self._store.set(f"heard, {self._rank}", "")
        return self._store.get("failed").decode()

    def _tell(self, reason: str) -> str:
        """Leaves word of a failure; the first one, which may be another's."""
        return self._store.compare_set("failed", "", reason).decode()

    def _gone(self, watched: list[int], seen: dict[int, bytes], missed: dict[int, int]) -> str | None:
        for other in watched:
            beat = self._store.get(f"beat, {other}") if self._store.check([f"beat, {other}"]) else None
            if beat is not None and beat != seen.get(other):
                seen[other], missed[other] = beat, 0
                continue
            missed[other] += 1
            if other not in seen and missed[other] * BEAT > ARRIVAL:
                return self._tell(f"Process {other} of {self._world} did not come within {ARRIVAL / 60:.0f} minutes.")
            if other in seen and missed[other] > MISSED and not self._store.check([f"left, {other}"]):
                return self._tell(
                    f"Process {other} of {self._world} gave no sign of life for {MISSED * BEAT:.0f} seconds: it was "
                    f"killed, or its machine or the network is down."
                )
        return None
