"""Only regular files are read; what concerns one file is distinguished from what concerns the disk or the machine."""

from __future__ import annotations

import errno
import gzip
import os
import socket
from urllib.error import URLError

import pytest
from PIL import UnidentifiedImageError

from clip_lens_plugin.files.given import (
    NotRegularError,
    UnreachableError,
    is_unreachable,
    open_regular,
    read_regular,
    reason_of,
    refuse_not_regular,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (UnreachableError("gone"), True),
        (OSError(errno.ENOENT, "No such file", "a"), True),
        (OSError(errno.ENOTDIR, "Not a directory", "a"), True),
        (FileNotFoundError("by a library"), True),
        (OSError(errno.EIO, "I/O error"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (OSError(errno.ENFILE, "Too many open files in system"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOTCONN, "Transport endpoint is not connected"), True),
        (OSError(errno.ENODEV, "No such device"), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (URLError("no route to host"), True),
        (OSError("image file is truncated"), False),
        (UnidentifiedImageError("no image"), False),
        (gzip.BadGzipFile("no gzip"), False),
        (OSError(errno.EISDIR, "Is a directory"), False),
        (OSError(errno.EINVAL, "Invalid argument"), False),
        (OSError(errno.ELOOP, "Too many levels of symbolic links"), False),
        (ValueError("broken data stream"), False),
        (SyntaxError("bad header"), False),
    ],
)
def test_errors_are_of_the_place_or_of_one_file(error, expected):
    assert is_unreachable(error) is expected
    assert "\n" not in reason_of(error)
    assert reason_of(error)


def test_a_forbidden_file_is_one_file_and_a_forbidden_folder_is_a_place(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    assert not is_unreachable(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "a")))
    # Root may look into any folder, so what cannot be looked at here is not there.
    assert is_unreachable(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "shut" / "a")))
    assert not is_unreachable(PermissionError("by a library"))


def test_pipes_sockets_devices_and_folders_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        (tmp_path / "link").symlink_to("pipe")
        kinds = {"pipe": "a pipe", "link": "a pipe", "socket": "a socket", "/dev/zero": "a device", ".": "a folder"}
        for path, kind in kinds.items():
            for read in (read_regular, open_regular, refuse_not_regular):
                with pytest.raises(NotRegularError, match=f"^{kind}, not a file$"):
                    read(path)


def test_files_are_read_up_to_a_size(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a") == read_regular(tmp_path / "a", 5) == b"12345"
    with pytest.raises(NotRegularError, match="5 bytes, at most 4"):
        read_regular(tmp_path / "a", 4)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "b")
    assert refuse_not_regular(tmp_path / "a") is refuse_not_regular(tmp_path / "b") is None
