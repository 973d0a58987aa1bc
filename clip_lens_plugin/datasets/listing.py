"""The image files of a folder, and what stands in the place of one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from clip_lens_plugin.files.given import UnreachableError, not_regular, reason_of
from clip_lens_plugin.images.pictures import SUFFIXES
from clip_lens_plugin.labelling.folders import is_hidden


def listed(root: Path) -> tuple[list[Path], list[tuple[Path, str]], list[Path]]:
    """Image files of the folder and its subfolders; with the reason, what could be some but is not; hidden folders.

    That is a link that leads out of the folder or to nothing; a pipe, a socket or a device; a folder that may not be
    listed. Links to folders are not entered, so that no loop is.

    Raises:
        UnreachableError: if the folder cannot be listed, or not to its end.
    """
    found: list[Path] = []
    not_taken: list[tuple[Path, str]] = []
    hidden: list[Path] = []

    def cannot_be_listed(error: OSError) -> None:
        path = Path(error.filename or root)
        if not isinstance(error, PermissionError) or path == root:
            raise UnreachableError(f"The folder {path} cannot be listed: {reason_of(error)}.") from error
        not_taken.append((path, f"a folder that cannot be listed: {reason_of(error)}"))

    inside = root.resolve()
    for parent, folders, names in os.walk(root, onerror=cannot_be_listed):
        hidden += [Path(parent, name) for name in folders if is_hidden(name)]
        folders[:] = [name for name in folders if not is_hidden(name)]  # os.walk goes into those that are left.
        for name in folders:
            path = Path(parent, name)
            if path.is_symlink() and not (target := path.resolve()).is_relative_to(inside):
                not_taken.append((path, _out(target)))
        for name in names:
            path = Path(parent, name)
            is_image = path.suffix.lower() in SUFFIXES
            refused = _refused(path, inside) if is_image else _lost_folder(path)
            if refused is not None:
                not_taken.append((path, refused))
            elif is_image:
                found.append(path)
    return found, not_taken, hidden


def _refused(path: Path, inside: Path) -> str | None:
    """Why what has an image's name is not read; None if it is."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        try:
            target = path.resolve(strict=True)
            mode = target.stat().st_mode
        except FileNotFoundError:
            return "a link to nothing"
        except (OSError, RuntimeError):  # the latter of a link that leads to itself
            return "a link that leads to no file"
        if not target.is_relative_to(inside):
            return _out(target)
    return None if stat.S_ISREG(mode) else not_regular(mode)


def _lost_folder(path: Path) -> str | None:
    # A link to a folder that is gone, which would have been entered in nobody's sight.
    return "a link to nothing" if not path.suffix and path.is_symlink() and not path.exists() else None


def _out(target: Path) -> str:
    return f"a link that leads out of the folder, to {target}, and is not followed"
