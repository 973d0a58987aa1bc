"""PIL's decoders, kept from starting programs and from filling a terminal."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from PIL import EpsImagePlugin, Image

STDERR = 2

# Without a handler of its own, Python prints to the terminal what PIL logs of a damaged file.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class _Shared:
    """A setting of the whole process, in force while at least one thread is inside."""

    def __init__(self, setting: Callable[[], AbstractContextManager[None]]) -> None:
        self._setting, self._lock, self._inside = setting, threading.Lock(), 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._held = self._setting()
                self._held.__enter__()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._held.__exit__(None, None, None)


@contextmanager
def _ghostscript_off() -> Iterator[None]:
    before, EpsImagePlugin.gs_binary = EpsImagePlugin.gs_binary, False
    try:
        yield
    finally:
        EpsImagePlugin.gs_binary = before


@contextmanager
def _terminal_off() -> Iterator[None]:
    try:
        kept = os.dup(STDERR)
    except OSError:  # closed, so that nothing can be said there
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)


without_ghostscript = _Shared(_ghostscript_off)
without_terminal = _Shared(_terminal_off)
"""For libtiff, which prints a line for each row of pixels that it doubts, past Python."""


@contextmanager
def quiet_and_alone() -> Iterator[None]:
    """Inside, PIL starts no Ghostscript, its warnings are not shown, and that of a bomb is an error.

    That holds too for pictures which a data set's own code opens.
    """
    with without_ghostscript(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
