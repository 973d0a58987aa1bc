"""The folder of what browsers sent and saved: one for all explorers of a process, since Gradio knows one."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

READ_BY_GRADIO = "GRADIO_TEMP_DIR"
_lock = threading.Lock()
_used_by: list[object] = []
_folder: tempfile.TemporaryDirectory[str] | None = None


class Folder:
    """Keeps the folder until it is closed, and removes it with all that is in it if nobody else does."""

    def __init__(self) -> None:
        global _folder
        with _lock:
            if _folder is None:
                _folder = tempfile.TemporaryDirectory(prefix="clip-lens-explore-")
                os.environ[READ_BY_GRADIO] = _folder.name
            _used_by.append(self)

    def close(self) -> None:
        """Lets go of it; once more does nothing."""
        global _folder
        with _lock:
            if self not in _used_by:
                return
            _used_by.remove(self)
            if not _used_by and _folder is not None:
                _folder.cleanup()
                _folder = None
                os.environ.pop(READ_BY_GRADIO, None)


def new_folder() -> Path:
    """An empty folder in it, for one file that is saved.

    Raises:
        RuntimeError: if no explorer runs.
    """
    with _lock:
        if _folder is None:
            raise RuntimeError("No explorer runs: there is no folder for its files.")
        return Path(tempfile.mkdtemp(dir=_folder.name))
