"""The lines of a small text file that a user wrote."""

from __future__ import annotations

from pathlib import Path


def text_lines(path: Path, what: str) -> list[str]:
    """The lines, without those that are blank at the end.

    Args:
        what: is expected in it: "labels".

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no UTF-8 text, or empty.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no text file {path}, expected one of {what}.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    if "\0" in text or text.lstrip()[:1] in ("{", "["):
        raise ValueError(f"{path} is no list of {what}: expected plain text.")
    lines = text.rstrip().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines == [""]:
        raise ValueError(f"{path} is empty, expected {what}.")
    return lines
