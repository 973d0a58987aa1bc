"""Names, labels, texts and reasons as they may be shown: nothing in them acts on a terminal or a spreadsheet, or hides.

A file name can hold escape sequences that rewrite a terminal, marks that turn the order of letters around, or letters
without a width that make two names look the same; a spreadsheet runs a cell that begins with "=".
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
"""Letters and marks that nothing is drawn for."""

JOINERS = "\u200c\u200d"
"""Between letters of Persian or of India, and in pictographs, they change what is drawn."""

ACTIVE = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a cell begins with that a spreadsheet takes for a formula."""

_SUSPECT = re.compile(
    "[\u0000-\u001f\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202f"
    "\u205f-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\uffff\U0001bca0-\U0001bcaf\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_UNSHOWN = ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")
"""Unicode's categories of controls, formats (all of bidirectional text among them), surrogates and line breaks."""


def printable(text: str, most: int | None = None) -> str:
    r"""The text with what acts or hides written out, such as \\x1b, \\n or \\u202e; what can be read stays as it is.

    Bytes of a file's name that are no UTF-8 become U+FFFD. Printable text comes back unchanged, so it does no harm to
    apply it twice.

    Args:
        text: of a user's data, as Python holds it.
        most: characters that are kept; a longer text ends in "…".
    """
    if most is not None and len(text) > most:
        text = text[: most - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    if any("\udc80" <= letter <= "\udcff" for letter in text):
        text = _decoded(text)
    return _SUSPECT.sub(_written_out, text)


def one_line(text: str, most: int | None = None) -> str:
    """The same as :func:`printable`, each run of white space and line breaks made one space first."""
    return printable(" ".join(text[: None if most is None else 4 * most].split()), most)


def how_many(n: int, one: str) -> str:
    """The number with its noun: "1 image", "2,000 images"."""
    return f"{n:,} {one}{'' if n == 1 else 's'}"


def two_digits(value: float) -> str:
    """The number to two digits, or as a whole one where it has more before the point: 0.0017, 17, 170, 1,700."""
    return f"{value:.2g}" if abs(value) < 99.5 else f"{value:,.0f}"


def signed(value: float, places: int) -> str:
    """The number with its sign and so many places after the point; what rounds to nothing is 0 without a sign."""
    text = f"{value:+.{places}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes a table whose texts no spreadsheet runs: those that begin like a formula get a "'", numbers stay numbers.

    Raises:
        OSError: if it cannot be written.
    """
    from pandas.api.types import is_numeric_dtype

    safe = table.copy()
    for column in safe.columns:
        if not is_numeric_dtype(safe[column].dtype):
            safe[column] = safe[column].map(_cell)
    safe.columns = [_cell(column) for column in safe.columns]
    safe.to_csv(path, index=False)


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    quoted = f"'{value}" if value.lstrip(" \u00a0\u3000").startswith((*ACTIVE, "＝", "＋", "－", "＠")) else value
    return printable(quoted)


def _decoded(text: str) -> str:
    """Bytes that Python could not decode, and kept as U+DC80 to U+DCFF, as U+FFFD, one for what UTF-8 counts as one."""

    def of_bytes(found: re.Match[str]) -> str:
        return bytes(ord(each) - 0xDC00 for each in found[0]).decode("utf-8", "replace")

    return re.sub("[\udc80-\udcff]+", of_bytes, text)


def _written_out(found: re.Match[str]) -> str:
    letter = found[0]
    if letter in JOINERS and _joins(found.string, found.start()):
        return letter
    if unicodedata.category(letter) not in _UNSHOWN and letter not in BLANK:
        return letter
    code = letter.encode("unicode_escape", "surrogatepass").decode("ascii")
    return code if code != letter else f"\\u{ord(letter):04x}"


def _joins(text: str, at: int) -> bool:
    """Whether what stands on both sides is beyond ASCII, as in the scripts that need joiners."""
    return 0 < at < len(text) - 1 and not text[at - 1].isascii() and not text[at + 1].isascii()
