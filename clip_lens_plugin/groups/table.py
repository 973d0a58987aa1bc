"""A file with the class, the cue and the split of each image, such as Waterbirds' metadata.csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clip_lens_plugin.hints import given_as
from clip_lens_plugin.labelling.columns import LABEL_NAMES
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.labelling.table import columns_of, read_table
from clip_lens_plugin.labelling.values import labels_from_values

METADATA = "metadata.csv"
"""What the file is called inside a data set's folder, as Waterbirds is distributed."""

Coded = tuple[list[int], tuple[str, ...] | None]
"""Position of each value, -1 for unknown, and the names; None for plain numbers."""


@dataclass(frozen=True)
class Columns:
    """What a file says of each image; None where it has no such column."""

    labels: Coded | None
    cues: Coded
    splits: list[str] | None


def read_columns(
    path: Path, names: Sequence[str], label_column: str | None, cue_column: str, split_column: str
) -> Columns:
    """The class, the cue and the split of each image, by its name.

    Args:
        path: the file, or the folder that holds a :data:`METADATA`.
        names: of the images.
        label_column: header of the classes; if not given, the one that is known to hold them, if any.
        cue_column: header of the cue.
        split_column: header of the splits.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if an image has no row or two, or a column is missing.
    """
    path = path / METADATA if path.is_dir() else path
    header = columns_of(path)
    if cue_column not in header:
        raise ValueError(
            f"{path} has no column {cue_column!r} for the cue; it has {few(header, 20)}. {given_as('cue_column')} "
            f"names it."
        )

    def coded(column: str) -> Coded:
        table = read_table(path, names, column)
        return labels_from_values(table.values, table.places, None, f"{path}, column {column},")

    of_classes = [label_column] if label_column else [name for name in header if name.lower() in LABEL_NAMES]
    if len(of_classes) > 1:
        raise ValueError(
            f"{path} has several columns that may hold classes, {few(of_classes)}: {given_as('label_column')} says "
            f"which."
        )
    splits = read_table(path, names, split_column).values if split_column in header else None
    return Columns(coded(of_classes[0]) if of_classes else None, coded(cue_column), splits)
