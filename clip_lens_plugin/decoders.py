"""PIL's decoders, kept from starting programs and from filling a terminal."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import EpsImagePlugin, Image

_LOCK = threading.Lock()
_without_programs = 0
_ghostscript: str | bool | None = None

# Without a handler of its own, Python prints to the terminal what PIL logs of a damaged file.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextmanager
def quiet_and_alone() -> Iterator[None]:
    """Inside, PIL starts no Ghostscript, its warnings are not shown, and that of a bomb is an error.

    That holds too for pictures which a data set's own code opens.
    """
    with _no_ghostscript(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _no_ghostscript() -> Iterator[None]:
    global _without_programs, _ghostscript
    with _LOCK:
        if _without_programs == 0:
            _ghostscript = EpsImagePlugin.gs_binary
        _without_programs += 1
        EpsImagePlugin.gs_binary = False
    try:
        yield
    finally:
        with _LOCK:
            _without_programs -= 1
            if _without_programs == 0:
                EpsImagePlugin.gs_binary = _ghostscript
