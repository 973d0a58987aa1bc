"""Labels that a user gives beside a data set: a file, ImageNet's devkit, or a dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_lens_plugin.labelling.devkit import image_number, is_devkit, is_ground_truth, read_devkit
from clip_lens_plugin.labelling.match import matched
from clip_lens_plugin.labelling.names import classes_note, few
from clip_lens_plugin.labelling.table import LabelTable, read_table
from clip_lens_plugin.labelling.values import LabelOrder, ilsvrc_ids, labels_from_values

GivenLabels = str | Path | Mapping[str, Any]
"""A file, the devkit of ILSVRC 2012 as a folder or tar file, or a name to a label."""


@dataclass(frozen=True)
class Labelling:
    """The label of each sample.

    Attributes:
        labels: position in ``classes`` for each sample, -1 where it is not known.
        classes: their names; None where labels are numbers without names.
        note: what is taken for a class, and from where.
        unknown: names that labels were given for and no sample has.
    """

    labels: list[int]
    classes: tuple[str, ...] | None
    note: str
    unknown: tuple[str, ...]


def read_labels(
    given: GivenLabels,
    samples: Sequence[str],
    order: LabelOrder | None = None,
    column: str | None = None,
    is_part: bool = False,
) -> Labelling:
    """The label of each sample, by its name.

    Args:
        given: CSV, TSV or text with a name and a label on each line; text with one label per line for the samples
            sorted by name; the devkit of ILSVRC 2012 (its folder or tar file) for ImageNet's flat validation folder;
            or a dictionary of names.
        samples: their names.
        order: "imagenet" where whole numbers are positions in ImageNet's list of classes, or names shall be.
        column: header of the column of labels in a file with several.
        is_part: whether the samples may be a part of those that the labels are of; then labels of others do no harm.

    Raises:
        FileNotFoundError: if there is no such file, or it is no devkit.
        ValueError: if a sample has no label, a label no sample, or labels are not plain; the message names the first.
    """
    if not samples:
        raise ValueError("There is no sample to label.")
    if isinstance(given, Mapping):
        return _labelling(_from_mapping(given, samples), order, "the given labels", is_part)
    path = Path(given)
    if is_devkit(path):
        if column is not None:
            raise ValueError(f"{path} is a devkit, which has no column {column!r}.")
        ids = read_devkit(path)
        values = [ids[image_number(name, len(ids))] for name in samples]
        labels, classes = labels_from_values(values, list(samples), "imagenet", str(path))
        return Labelling(labels, classes, classes_note(classes or (), f"ImageNet's devkit {path.name}"), ())
    if is_ground_truth(path):
        raise ValueError(f"{path} is the devkit's list of labels without the kit. {ilsvrc_ids()}.")
    return _labelling(read_table(path, samples, column), order, str(path), is_part)


def _labelling(table: LabelTable, order: LabelOrder | None, origin: str, is_part: bool) -> Labelling:
    if table.unknown and not is_part:
        raise ValueError(
            f"{origin} has labels for {len(table.unknown):,} names that no sample has, the first {table.unknown[0]}. "
            f"Take them out, or give the data set that they are of."
        )
    labels, classes = labels_from_values(table.values, table.places, order, origin)
    how = "" if table.by_name else ", a line for each of the sorted names"
    if classes is None:
        note = f"labels from {origin}{how}: whole numbers without names; --classes FILE names them in order"
    else:
        note = classes_note(classes, f"{origin}{how}")
    if table.unknown:
        note += f"; {len(table.unknown):,} names in it are not collected ({few(table.unknown, 1)})"
    return Labelling(labels, classes, note, tuple(table.unknown))


def _from_mapping(given: Mapping[str, Any], samples: Sequence[str]) -> LabelTable:
    names = list(given)
    strange = next((key for key, value in given.items() if not isinstance(value, str) and type(value) is not int), None)
    if strange is not None or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"Labels are texts or whole numbers by the name of a sample, got {given[strange]!r:.60} for {strange!r}."
            if strange is not None
            else "Labels are given by the names of samples, which are texts."
        )
    values: dict[int, str] = {}
    unknown = []
    for name, sample in zip(names, matched(samples, names), strict=True):
        if sample is None:
            unknown.append(repr(name))
        elif sample in values:
            raise ValueError(f"The given labels have two for {samples[sample]!r}.")
        else:
            values[sample] = str(given[name]).strip()
    missing = [sample for i, sample in enumerate(samples) if i not in values]
    if missing:
        raise ValueError(
            f"The given labels lack {len(missing):,} of {len(samples):,} samples, the first {missing[0]!r}."
        )
    return LabelTable([values[i] for i in range(len(samples))], [repr(each) for each in samples], unknown, True)
