"""Files that appear whole or not at all: written beside their place, and put there once nothing can go wrong."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError

from clip_lens_plugin.files.given import reason_of

START = ".clip-lens-"
"""What the name of a file that is still being written begins with; hidden, and short whatever the name in the end."""

MOST_SHOWN = 600
"""Characters of a name in an error, so that the reason behind it is seen, too."""


@contextmanager
def whole_files() -> Iterator[Callable[[str | Path], Path]]:
    """A function from the path of a file to the one to write instead; all are put in place when the block ends.

    Whatever stood there before stays until then, and after an error, which leaves no other file behind. Several files
    are put in place one right after the other, once all are written. A file has the permissions that writing it
    directly would give: those of the one it replaces, or what the umask says. A symbolic link is followed, as writing
    does: the file that it points to is replaced, and the link stays.

    Raises:
        OSError: if a file cannot be written; see also :func:`check_place`.
    """
    waiting: dict[Path, tuple[Path, int]] = {}

    def beside(path: str | Path) -> Path:
        check_place(path)
        place = Path(os.path.realpath(path))
        if place not in waiting:
            partial = place.with_name(f"{START}{uuid4().hex}{place.suffix}")
            try:
                made = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except OSError as error:
                raise _not_made(f"The file {path}", place.parent, error) from None
            try:
                waiting[place] = partial, os.fstat(made).st_mode
            finally:
                os.close(made)
        return waiting[place][0]

    try:
        try:
            yield beside
        except SafetensorError as error:  # An OSError in all but name: "I/O error: No space left on device".
            raise OSError(f"The file could not be written: {error}.") from error
        for place, (partial, mode) in waiting.items():
            # Writers that make a file of their own in its place (safetensors) keep it from everybody else.
            partial.chmod(stat.S_IMODE(place.stat().st_mode if place.exists() else mode))
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        for place, (partial, _) in waiting.items():
            os.replace(partial, place)
    finally:
        for partial, _ in waiting.values():
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def make_folder(folder: str | Path) -> None:
    """Makes a folder, and those that it lies in, where they are not there yet.

    Raises:
        OSError: naming the folder and what is in its way.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_made(f"The folder {_short(folder)}", place.absolute(), error) from None


def _short(path: str | Path) -> str:
    name = str(path)
    return name if len(name) <= MOST_SHOWN else f"{name[:MOST_SHOWN]}…"


def _not_made(what: str, place: Path, error: OSError) -> OSError:
    """The same error in a sentence: what cannot be made, why, and the mend."""
    there = next(each for each in (place, *place.parents) if os.path.lexists(each))
    if not there.is_dir():
        why = f"{there} is no folder"
    elif not os.access(there, os.W_OK):
        why = f"{there} may not be written to"
    else:
        why = f"its file system, at {there}, answers {reason_of(error)!r}"
    said = type(error)(f"{what} cannot be made: {why}. Name a place that can be written to.")
    said.errno = error.errno  # By which callers tell a full disk from others.
    return said


def check_place(path: str | Path) -> None:
    """Raises what writing a file there would end in; for commands to ask before they begin.

    Raises:
        FileNotFoundError: if there is no folder for it, or its link leads nowhere.
        IsADirectoryError: if it is a folder.
        PermissionError: if it, or its folder, may not be written to.
        OSError: if it is neither a regular file nor free.
    """
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected the name of a file to write.")
    if place.exists() and not place.is_file():
        raise OSError(f"{path} is a device or a pipe, expected the name of a file to write.")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {Path(path).parent} to write {Path(path).name} into.")
    for each in (place, place.parent):
        if each.exists() and not os.access(each, os.W_OK):
            raise PermissionError(f"{each} may not be written to.")
