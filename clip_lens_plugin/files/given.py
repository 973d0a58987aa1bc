"""A user's files: only regular ones are opened, and errors of one file are not those of its place."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

NOT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
OF_ONE_FILE = {
    *(errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EOVERFLOW, errno.EILSEQ, errno.EFBIG),
    *(errno.ENXIO, errno.EOPNOTSUPP, errno.ERANGE, errno.EDOM),
}
"""Errors of the system that say something about one file. Any other is of the disk, the network or the machine."""

_LIBRARIES_OF_FILES = ("builtins", "PIL", "gzip")
KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class UnreachableError(OSError):
    """The place where data lie, or this machine, fails: the data may be whole, and readable later."""


class NotRegularError(ValueError):
    """Something else stands in a file's place; the message says what."""


def is_unreachable(error: BaseException) -> bool:
    """Whether an error says that a place or the machine fails, and nothing about the data.

    A missing file counts: it was there when it was listed. So do an I/O error, too many open files, a connection and
    too little memory. A forbidden file does not, unless the folder that it lies in is forbidden too. What a decoder
    raises has no number of the system's, and does not.
    """
    if isinstance(error, MemoryError | UnreachableError):
        return True
    if not isinstance(error, OSError):
        return False
    if isinstance(error, PermissionError):
        return error.filename is not None and not _can_be_looked_at(error.filename)
    if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionError | TimeoutError):
        return True
    if error.errno is None:
        return type(error).__module__.partition(".")[0] not in _LIBRARIES_OF_FILES
    return error.errno not in OF_ONE_FILE


def reason_of(error: BaseException) -> str:
    """The error in one line, without the path that the text of an OSError begins with."""
    if isinstance(error, MemoryError) and not str(error):
        return "too little memory"
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(message).splitlines()[0]


def refuse_not_regular(path: str | os.PathLike) -> None:
    """Nothing, if there is a regular file, or none at all.

    Raises:
        NotRegularError: if a pipe, a socket, a device or a folder stands there. Reading one may never end.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # Opening it says why.
    _refuse(mode)


def read_regular(path: str | os.PathLike, most: int | None = None) -> bytes:
    """The content of a regular file.

    Args:
        path: a link is followed.
        most: bytes; None for any number.

    Raises:
        NotRegularError: if it is no regular file, or larger.
        OSError: if it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise NotRegularError(f"{size:,} bytes, at most {most:,} are read")
        return file.read() if most is None else file.read(most)


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """A regular file, open for reading its bytes.

    Raises:
        NotRegularError: if something else stands in its place.
        OSError: if it cannot be opened.
    """
    _refuse(os.stat(path).st_mode)
    # A pipe that was put there since would be waited for, but for the flag.
    number = os.open(path, os.O_RDONLY | NOT_WAITING)
    try:
        _refuse(os.fstat(number).st_mode)
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def leads_out(path: Path, folder: Path) -> bool:
    """Whether the path, its links followed, ends outside of the folder."""
    return not path.resolve().is_relative_to(folder.resolve())


def _refuse(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotRegularError(not_regular(mode))


def not_regular(mode: int) -> str:
    """In words, what of a mode that is no regular file's stands there."""
    return f"{KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file"


def _can_be_looked_at(path: str | bytes | int) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True
