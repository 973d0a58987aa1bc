"""What can go wrong while a model is loaded: the network, the machine, or what was given."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

NETWORK_MODULES = ("aiohttp", "http", "httpcore", "httpx", "requests", "socket", "ssl", "urllib", "urllib3")
"""Libraries whose errors are of the network."""

DISK_ERRORS = {
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ENOSPC", "EPERM", "EROFS", "ESTALE")
    if hasattr(errno, name)
}
NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")
"""torch's words on the CPU, where it raises a RuntimeError."""


class ModelNotFoundError(ValueError):
    """No such model, tag or checkpoint, or its weights cannot be had."""


class UnfitError(Exception):
    """What is wrong with a checkpoint, as the rest of a sentence that begins with its name."""


class LoadingWarning(UserWarning):
    """What was decided, unwrapped or changed while a model was loaded, and may make it another model."""


def first_line(error: BaseException) -> str:
    """What an error says first, without its full stop; its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__


def is_no_memory(error: BaseException) -> bool:
    """Whether memory ran out, of this machine or its GPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    )


def refuse_machine_errors(error: BaseException) -> None:
    """Raises again what is the machine's: memory that ran out, a disk that is full or cannot be read.

    Libraries wrap these in errors of their own, which then read as if a download had failed.

    Raises:
        MemoryError, torch.OutOfMemoryError, RuntimeError, OSError: the one in the chain of causes.
    """
    for each in _chain(error):
        if is_no_memory(each) or (isinstance(each, OSError) and each.errno in DISK_ERRORS):
            raise each


def is_network(error: BaseException) -> bool:
    """Whether the network, or a hub that does not answer, is among an error's causes; a hub's "no" is not."""
    causes = list(_chain(error))
    codes = [code for code in map(_status, causes) if code is not None]
    if codes:
        return all(code >= 500 or code == 429 for code in codes)
    return any(
        isinstance(each, (ConnectionError, TimeoutError))
        or type(each).__module__.split(".")[0] in NETWORK_MODULES
        or type(each).__name__ in ("LocalEntryNotFoundError", "OfflineModeIsEnabled")
        for each in causes
    )


def _status(error: BaseException) -> int | None:
    """The code of a server's answer: of urllib's errors, or of those that carry a response; most errors have none."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    if code is None and type(error).__name__ == "HTTPError":
        code = getattr(error, "code", None)
    return code if isinstance(code, int) else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def quiet() -> Iterator[None]:
    """open_clip logs each step, and each failure once more before it raises; the message here says it once."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(previous)
