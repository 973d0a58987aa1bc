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
        given: the data set, collection or picture; None for drawn scenes.
        what: is written.
        suffix: of a file.
    """
    name = "scenes" if given is None else os.path.basename(os.path.normpath(given))
    # Braces of shards, and whatever else a shell would read as more than a name.
    stem = re.sub(r"[^\w.+]+", "-", re.sub(r"\.(tar|jpe?g|png|webp|bmp|tiff?|gif)$", "", name, flags=re.I)).strip("-.")
    places = (Path(f"{stem or 'here'}-{what}{'' if n == 1 else f'-{n}'}{suffix}") for n in count(1))
    return next(place for place in places if _is_free(place))


def _is_free(place: Path) -> bool:
    if not os.path.lexists(place):
        return True
    return place.is_dir() and set(os.listdir(place)) <= {COLLECTED}
