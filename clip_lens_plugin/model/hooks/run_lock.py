"""One run of a model at a time: hooks are the model's, not a thread's."""

from __future__ import annotations

import os
from threading import RLock
from typing import Any
from weakref import WeakSet

PATIENCE = 60.0
"""Seconds that a thread waits for another one before it says so."""

_LOCKS: WeakSet[RunLock] = WeakSet()


class RunLock:
    """A lock that one thread holds as often as it likes, with ``with``; a copy, or what is unpickled, is a new one."""

    def __init__(self) -> None:
        self._lock = RLock()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=PATIENCE):
            raise RuntimeError(
                f"Another thread has held this model for {PATIENCE:.0f} seconds: it is inside `with model.hooks(...)`, "
                f"whose hooks are the model's and would act here too. Run the model in the thread that put them on, or "
                f"give each thread a copy of its own: copy.deepcopy(model)."
            )

    def __exit__(self, *_: Any) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[RunLock], tuple[()]]:
        return RunLock, ()

    def renew(self) -> None:
        """A new lock, which nobody holds: in a forked process the thread that held the old one is not there."""
        self._lock = RLock()


def _renew_all() -> None:
    for each in list(_LOCKS):
        each.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
