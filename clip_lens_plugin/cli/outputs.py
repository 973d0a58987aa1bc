"""Where a command writes if that is not said: beside nothing that it could overwrite, named after what it was given."""

from __future__ import annotations

import os
import re
from itertools import count
from pathlib import Path

COLLECTED = "collected"
"""Folder inside a command's own that a data set is collected into."""


def free_place(given: str | None, what: str, suffix: str = "") -> Path:
    """A new path in the working directory, such as "photos-report", or "photos-report-2" where there is one.

    A folder that a command left empty, or with no more than what it collected before it was cut off, is taken again.

    Args:
        given: the data set, store or picture; None for drawn scenes.
        what: is written.
        suffix: of a file.
    """
    name = "scenes" if given is None else os.path.basename(os.path.normpath(given))
    # Braces of shards, and whatever else a shell would read as more than a name.
    stem = re.sub(r"[^\w.+]+", "-", re.sub(r"\.(tar|jpe?g|png|webp|bmp|tiff?|gif)$", "", name, flags=re.I)).strip("-.")
    places = (Path(f"{stem or 'here'}-{what}{'' if n == 1 else f'-{n}'}{suffix}") for n in count(1))
    return next(place for place in places if _is_free(place))


def check_result(out: Path) -> None:
    """Refuses a place where a result cannot be saved, before anything is computed.

    Raises:
        ValueError: if the ending is neither that of a page, nor of a figure, nor of a table.
        OSError: if nothing can be written there.
    """
    # Here, since pandas takes a while to load.
    from clip_lens_plugin.files.whole import check_place
    from clip_lens_plugin.shown import DRAWN, TABLES

    if out.suffix.lower() not in (*DRAWN, *TABLES):
        raise ValueError(f"--out must end in one of {' '.join((*DRAWN, *TABLES))}, got {out}.")
    check_place(out)


def _is_free(place: Path) -> bool:
    if not os.path.lexists(place):
        return True
    return place.is_dir() and set(os.listdir(place)) <= {COLLECTED}
