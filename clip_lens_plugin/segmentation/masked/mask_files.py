"""Masks as PNG files, and the names of their values."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from PIL import Image

from clip_lens_plugin.files.given import UnreachableError, read_regular
from clip_lens_plugin.images.pictures import MOST_BYTES, MOST_PIXELS, UnreadableImageError, unreadable_where
from clip_lens_plugin.labelling.lines import text_lines

MASK_MODES = ("1", "L", "P", "I;16", "I")
"""PIL's names of pictures with one whole number per pixel; of a palette it is the number of the colour."""

_VALUE_AND_NAME = re.compile(r"""\s*["']?(\d{1,5})["']?\s*[,;:\t]\s*["']?(.*?)["']?\s*""")

_ID_AND_TEXT = re.compile(r"\s*(n\d{8})[\s,;:]+(\S.*?)\s*")


def read_mask(path: Path) -> Integer[np.ndarray, "height width"]:
    """The value of each pixel; of a picture of two colours 0 and 1.

    Raises:
        UnreadableImageError: if it is no PNG, is damaged or too large, or has colours for values.
        UnreachableError: if its place cannot be reached.
    """
    try:
        with unreadable_where(), Image.open(BytesIO(read_regular(path, MOST_BYTES)), formats=["PNG"]) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise UnreadableImageError(f"more than {MOST_PIXELS:,} pixels")
            if opened.mode not in MASK_MODES:
                raise UnreadableImageError(
                    f"a picture of mode {opened.mode}, expected one value per pixel: grey of 8 or 16 bits, or a palette"
                )
            values = np.asarray(opened)
        return values.astype(np.uint8) if values.dtype == bool else values
    except (UnreadableImageError, UnreachableError) as error:
        raise type(error)(f"The mask {path} cannot be used: {error}.") from error


def read_id_names(path: Path) -> dict[str, str]:
    """The text of each WordNet id, from lines of an id, a comma, a tab or a space, and a text.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line is none of these, or an id occurs twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text_lines(path, "WordNet ids and texts"), start=1):
        parts = _ID_AND_TEXT.fullmatch(line)
        if parts is None and line.strip():
            raise ValueError(
                f"Line {number} of {path} is {line[:60]!r}, expected an id and its text: n02085620,chihuahua."
            )
        if parts is not None:
            if parts[1] in found:
                raise ValueError(f"{path} names {parts[1]} again on line {number}.")
            found[parts[1]] = parts[2]
    return found


def read_value_names(path: Path) -> dict[int, str]:
    """The name of each value of masks, from lines of a value, a comma, a colon or a tab, and a name.

    Lines that begin with "#" and blank ones are passed over, and so are those without a value before the first, which
    are headings: a CSV and a flat YAML of ``value: name`` are read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line is none of these, a value occurs twice, or there is none.
    """
    found: dict[int, str] = {}
    for number, line in enumerate(text_lines(path, "values and names"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = _VALUE_AND_NAME.fullmatch(line)
        if parts is None or not parts[2]:
            if not found:
                continue
            raise ValueError(
                f"Line {number} of {path} is {line[:60]!r}, expected a value of masks and its name: 17,cat."
            )
        value = int(parts[1])
        if value in found:
            raise ValueError(f"{path} names the value {value} again on line {number}.")
        found[value] = parts[2]
    if not found:
        raise ValueError(f"{path} has no line with a value of masks and its name, such as 17,cat.")
    return found
