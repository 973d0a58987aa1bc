"""A file of labels: a name and a label on each line, or one label per line for the sorted names."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clip_lens_plugin.hints import hint
from clip_lens_plugin.labelling.columns import LABEL_NAMES
from clip_lens_plugin.labelling.lines import text_lines
from clip_lens_plugin.labelling.match import matched
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.labelling.wordnet import is_wordnet_id

NAME_HEADERS = (
    "name",
    "file",
    "filename",
    "file_name",
    "path",
    "filepath",
    "image",
    "image_id",
    "imageid",
    "id",
    "key",
)
"""Headers, in lower case, of a column of names."""

_PICTURE = re.compile(r"\.(?:jpe?g|png|webp|gif|bmp|tiff?)\b", re.IGNORECASE)
_LOOKED_AT = 200  # lines from which the columns are recognised


@dataclass(frozen=True)
class LabelTable:
    """Labels as they stand in a file, one for each of the samples it was read for.

    Attributes:
        values: a label for each sample.
        places: where it stands: "line 3".
        unknown: names in the file that no sample has.
        by_name: whether names stand in the file.
    """

    values: list[str]
    places: list[str]
    unknown: list[str]
    by_name: bool


def read_table(path: Path, samples: Sequence[str], column: str | None) -> LabelTable:
    """The label of each sample.

    Names may be paths in the data set, file names, or either without suffix, where only one sample has that.

    Args:
        path: CSV, TSV, or lines of a name, a space and a label; or one label per line for the samples sorted by name.
        samples: names of the samples.
        column: header of the column of labels; recognised by its name, or the only one beside the names, if not given.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no text, a sample has no label or two, or it is not plain what is a name and what a label.
    """
    lines = text_lines(path, "labels")
    for split in _splits(path):
        rows = _rows(path, lines, split)
        match = _name_column(rows, samples)
        if match is not None:
            return _by_name(path, rows, *match, samples, column)
    if column is not None:
        raise ValueError(f"{path} has no column of names that are those of the samples, as {samples[0]!r}.")
    return _by_line(path, lines, samples)


def columns_of(path: Path) -> list[str]:
    """The cells of the first line of a table: its headers, where it has some.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_table`.
    """
    first = next(line for line in text_lines(path, "labels") if line.strip())
    return max((_rows(path, [first], split)[0][1] for split in _splits(path)), key=len)


Row = tuple[int, list[str]]
"""Number of a line, and its cells."""


def _splits(path: Path) -> list[str]:
    by_suffix = {".csv": [",", ";", "\t"], ".tsv": ["\t"]}
    return by_suffix.get(path.suffix.lower(), ["\t", ",", ";", "first space", "last space"])


def _rows(path: Path, lines: list[str], split: str) -> list[Row]:
    if split.endswith("space"):
        cut = str.split if split == "first space" else str.rsplit
        return [(i, cut(line.strip(), None, 1)) for i, line in enumerate(lines, start=1) if line.strip()]
    try:
        reader = csv.reader((f"{line}\n" for line in lines), delimiter=split)
        found = []
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((reader.line_num, [cell.strip() for cell in cells]))
        return found
    except csv.Error as error:
        raise ValueError(f"{path} is no table: {error}.") from error


def _name_column(rows: list[Row], samples: Sequence[str]) -> tuple[int, list[int | None]] | None:
    """The column that holds most names of samples, and how they are spelt; None if none holds any."""
    width = max(len(cells) for _, cells in rows)
    if width < 2 or width > 1000:
        return None
    best: tuple[int, int, list[int | None]] | None = None
    for i in range(width):
        cells = [cells[i] if len(cells) > i else "" for _, cells in rows]
        if not _any_known(cells[:_LOOKED_AT] + cells[-_LOOKED_AT:], samples):
            continue
        match = matched(samples, cells)
        n = sum(each is not None for each in match)
        if n and (best is None or n > best[0]):
            best = n, i, match
    return None if best is None else best[1:]


def _any_known(cells: list[str], samples: Sequence[str]) -> bool:
    return any(each is not None for each in matched(samples, cells))


def _by_name(
    path: Path, rows: list[Row], at: int, match: list[int | None], samples: Sequence[str], column: str | None
) -> LabelTable:
    header = [cell.lower() for cell in rows[0][1]]
    has_header = match[0] is None and (
        header[at] in NAME_HEADERS or any(cell in (*LABEL_NAMES, "predictionstring") for cell in header) or column
    )
    body = rows[1:] if has_header else rows
    where = _label_column(path, rows[0][1] if has_header else None, max(len(cells) for _, cells in rows), at, column)
    known = iter(match[1:] if has_header else match)
    first_words = has_header and header[where] == "predictionstring"  # Kaggle's: an id, then boxes.
    values: dict[int, str] = {}
    lines: dict[int, int] = {}
    unknown = []
    for number, cells in body:
        if len(cells) <= max(at, where):
            raise ValueError(f"Line {number} of {path} has {len(cells)} columns, expected a name and a label.")
        sample = next(known)
        if sample is None:
            unknown.append(f"{cells[at]} (line {number})")
            continue
        if sample in values:
            raise ValueError(f"{path} names {cells[at]!r} on line {lines[sample]} and again on line {number}.")
        value = cells[where].split(" ")[0] if first_words else cells[where]
        values[sample], lines[sample] = value, number
    missing = [sample for i, sample in enumerate(samples) if i not in values]
    if missing:
        strays = (
            f"; {len(unknown):,} of its names are those of no sample or of several: {few(unknown, 1)}"
            if unknown
            else ""
        )
        raise ValueError(
            f"{path} has no label for {len(missing):,} of {len(samples):,} samples, the first {missing[0]!r}{strays}."
        )
    order = range(len(samples))
    return LabelTable([values[i] for i in order], [f"line {lines[i]}" for i in order], unknown, True)


def _label_column(path: Path, header: list[str] | None, width: int, at: int, column: str | None) -> int:
    if column is not None:
        if header is None or column not in header:
            columns = "no header" if header is None else f"the columns {few(header, 20)}"
            raise ValueError(f"{path} has no column {column!r}; it has {columns}.")
        return header.index(column)
    if width == 2:
        return 1 - at
    named = [] if header is None else [i for i, cell in enumerate(header) if i != at and cell.lower() in LABEL_NAMES]
    if len(named) == 1:
        return named[0]
    columns = f"{width} columns and no header" if header is None else f"the columns {few(header, 20)}"
    way = hint("--label-column NAME (label_column=)", "--label-column NAME")
    raise ValueError(f"{path} has {columns}; which holds the labels? {way} says it.")


def _by_line(path: Path, lines: list[str], samples: Sequence[str]) -> LabelTable:
    values = [line.strip() for line in lines]
    first = next((i for i, value in enumerate(values) if _PICTURE.search(value) or "\t" in value), None)
    if first is not None or path.suffix.lower() == ".tsv":
        raise ValueError(
            f"None of the names in {path} is that of a sample: line {(first or 0) + 1} is {values[first or 0][:80]!r}, "
            f"a sample is {samples[0]!r}. Write names as they stand in the data set."
        )
    if len(values) != len(samples):
        raise ValueError(
            f"{path} has {len(values):,} lines, the data set {len(samples):,} samples, the first {samples[0]!r}. Give "
            f"a line for each, or a name and a label on each line, with the names of the data set."
        )
    if "" in values:
        raise ValueError(f"Line {values.index('') + 1} of {path} is blank: each line is the label of a sample.")
    if len(values) > 20 and len(set(values)) == len(values) and not any(map(is_wordnet_id, values)):
        raise ValueError(f"Every line of {path} is another ({few(values, 2)}); expected the names of classes.")
    names = sorted(samples)
    if names != sorted(samples, key=_as_people_sort):
        one, other = next((a, b) for a, b in zip(names, sorted(samples, key=_as_people_sort), strict=True) if a != b)
        raise ValueError(
            f"{path} has one label per line for sorted names, but they sort in two ways: {one!r} comes before "
            f"{other!r} by its letters, and after it by its numbers or without case. Write the name on each line "
            "as well."
        )
    place = {name: i for i, name in enumerate(names)}
    return LabelTable(
        [values[place[each]] for each in samples], [f"line {place[each] + 1}" for each in samples], [], False
    )


def _as_people_sort(name: str) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]
