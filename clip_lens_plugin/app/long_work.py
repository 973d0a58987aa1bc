"""Work that takes long, while a page waits: it says how far it has come, and ends when nobody waits for it any more."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from clip_lens_plugin.bars import followed

Found = TypeVar("Found")

SAY_EVERY = 0.25
"""Seconds between two notes of how far it has come."""


class Stopped(BaseException):
    """Nobody waits any more. Not an error: what catches those must not catch this."""


@dataclass(frozen=True)
class Working:
    """How far long work has come.

    Attributes:
        what: is done now.
        share: of it that is done, from 0 to 1; None where nobody knows.
    """

    what: str
    share: float | None = None


@dataclass(frozen=True)
class Done(Generic[Found]):
    """What long work found."""

    found: Found


def worked(call: Callable[[], Found], what: str) -> Iterator[Working | Done[Found]]:
    """How far a call has come, again and again, and at last what it returned.

    The call runs in a thread of its own. When the caller closes this iterator, the call ends at its next bar's step.

    Args:
        call: shows its progress by :mod:`clip_lens_plugin.bars`, seen or not.
        what: it does, until a bar says more.

    Raises:
        BaseException: what the call raised.
    """
    state, stopped = [Working(what)], threading.Event()
    ended: list[Found] = []
    raised: list[BaseException] = []

    def follow(now: str, done: float | int, total: float | int | None) -> None:
        if stopped.is_set():
            raise Stopped
        state[0] = Working(now, min(1.0, done / total) if total else None)

    def run() -> None:
        try:
            with followed(follow):
                ended.append(call())
        except Stopped:
            pass
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True, name="long work")
    thread.start()
    try:
        thread.join(SAY_EVERY)
        while thread.is_alive():
            yield state[0]
            thread.join(SAY_EVERY)
    finally:
        stopped.set()
    if raised:
        raise raised[0]
    yield Done(ended[0])


def awaited(call: Callable[[], Found], what: str) -> Generator[Working, None, Found]:
    """What a call returned; on the way how far it has come: ``found = yield from awaited(call, "looking")``.

    Args:
        call, what: see :func:`worked`.

    Raises:
        BaseException: what the call raised.
    """
    for now in worked(call, what):
        if isinstance(now, Done):
            return now.found
        yield now
    raise AssertionError("long work ends with what it found")
