"""One run of a model at a time: hooks are the model's, not a thread's."""

from __future__ import annotations

from threading import RLock
from typing import Any


class RunLock:
    """A lock that one thread holds as often as it likes, with ``with``; a copy, or what is unpickled, is a new one."""

    def __init__(self) -> None:
        self._lock = RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: Any) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[RunLock], tuple[()]]:
        return RunLock, ()
