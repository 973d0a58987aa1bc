"""A Hugging Face data set with a column of images."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from clip_lens_plugin.arguments import checked_index
from clip_lens_plugin.datasets.source import Sample, checked_label, fingerprint_of
from clip_lens_plugin.datasets.streams.steps import hub_fingerprint
from clip_lens_plugin.images.pictures import UnreadableImageError, open_upright
from clip_lens_plugin.labelling.columns import LabelColumn, label_column, no_column_note, number_of
from clip_lens_plugin.labelling.names import classes_note
from clip_lens_plugin.labelling.wordnet import worded


class HuggingFaceSource:
    """One image column and, if there is one, one label column of a ``datasets.Dataset``; other columns are not read.

    Names are positions in eight digits. A format of the data set ("torch") has no effect.

    The fingerprint rests on the data set's own. ``datasets`` draws that at random after a ``map`` with a function
    it cannot hash, and warns; such a data set should be saved and loaded again before a run that may be resumed.
    """

    def __init__(
        self,
        dataset: Any,
        image_column: str | None = None,
        label_column: str | None = None,
        labelled: bool = True,
    ) -> None:
        """Reads no row; of a label column of texts, its distinct values, which are the classes, sorted.

        Args:
            dataset: a ``datasets.Dataset``.
            image_column: a column of type ``datasets.Image``; the only one if not given.
            label_column: a column of type ``datasets.ClassLabel``, of integers or of texts; if not given, the only
                ``ClassLabel``, or integers or texts under a name like "label", or no labels.
            labelled: whether to look for labels at all.

        Raises:
            TypeError: if it is a stream, or no Hugging Face data set.
            ValueError: if it still has splits or a transform, or the columns are not what is expected.
        """
        import datasets

        _check_kind(dataset)
        self._image_column = image_column_of(dataset.features, image_column, type(self).__name__)
        self._label = _label(dataset, label_column) if labelled else None
        classes = None if self._label is None else self._label.classes
        self._classes = None if classes is None else worded(classes)
        self._code = None if classes is None else {name: i for i, name in enumerate(classes)}
        self._columns = dataset.column_names
        columns = [self._image_column] + ([] if self._label is None else [self._label.name])
        self._fingerprint = fingerprint_of(
            f"hugging face {hub_fingerprint(dataset)} {len(dataset)}",
            classes,
            [*((column, -1) for column in dataset.column_names), *((column, -2) for column in columns)],
        )
        split = "" if dataset.split is None else f", split {dataset.split}"
        self._description = f"Hugging Face data set {dataset.info.dataset_name or ''}".rstrip() + split
        # Not decoded: a damaged image would be an error inside `datasets`, and a rotated one opened by other rules.
        rows = dataset.with_format(None).select_columns(columns)
        self._rows = rows.cast_column(self._image_column, datasets.Image(decode=False))

    @property
    def description(self) -> str:
        """The data set's own name and its split."""
        return self._description

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of its label column; None if it has none."""
        return self._classes

    @property
    def label_notes(self) -> tuple[str, ...]:
        """What is taken for a class."""
        if self._label is None:
            return (no_column_note(self._columns),)
        origin = f"the column {self._label.name}"
        if self._classes is None:
            return (f"labels from {origin}: whole numbers without names",)
        return (classes_note(self._classes, origin),)

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, position: int) -> str:
        """The position in eight digits."""
        return f"{checked_index('sample', position, len(self)):08d}"

    def read(self, position: int) -> Sample:
        """The row at a position: its picture, turned upright and in RGB, and its label.

        Raises:
            UnreadableImageError: if it holds no usable picture or label; the message says why.
            IndexError: if there is no such row.
            ValueError: if the label is beyond the classes.
        """
        row = self._rows[checked_index("sample", position, len(self))]
        label, name = -1, self.name(position)
        if self._label is not None:
            label = number_of(row[self._label.name], f"The column {self._label.name}", self._code, name)
        return Sample(open_upright(file_of(row[self._image_column])), checked_label(label, self._classes, name))

    def fingerprint(self) -> str:
        """What the data set's content and its columns were when it was wrapped."""
        return self._fingerprint


def _check_kind(dataset: Any) -> None:
    import datasets

    if isinstance(dataset, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise TypeError(
            f"A {type(dataset).__name__} is a stream: its samples have no positions, which is needed here. collect() "
            "takes it; else load it with streaming=False, or save it to disk."
        )
    if isinstance(dataset, datasets.DatasetDict):
        splits = ", ".join(map(repr, dataset)) or "none"
        raise ValueError(f"The data set has splits ({splits}); choose one, as in dataset['train'].")
    if not isinstance(dataset, datasets.Dataset):
        raise TypeError(f"HuggingFaceSource was given {type(dataset).__name__}; expected a datasets.Dataset.")
    if dataset.format["type"] == "custom":
        raise ValueError(
            "The data set has a transform, which would be left out, because its images are opened here. Take it off "
            "by dataset.with_format(None), or wrap the data set in a torch Dataset that gives (image, label)."
        )


def image_column_of(features: Any, wanted: str | None, source: str) -> str:
    """The column of images; ``source`` is the class that takes ``image_column``, for messages."""
    import datasets

    found = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if wanted is not None:
        if wanted not in found:
            raise ValueError(f"There is no image column {wanted!r}; image columns are {found}, all {[*features]}.")
        return wanted
    if not found:
        raise ValueError(
            f"None of the columns {[*features]} is of type datasets.Image; cast one: "
            "dataset.cast_column(name, datasets.Image())."
        )
    if len(found) > 1:
        raise ValueError(
            f"The data set has several image columns, {found}: {source}(dataset, image_column=...) chooses."
        )
    return found[0]


def _label(dataset: Any, wanted: str | None) -> LabelColumn | None:
    found = label_column(dataset.features, wanted)
    if found is None or found.kind != "text":
        return found
    return found.with_classes(dataset.unique(found.name))


def file_of(held: Any) -> str | BytesIO:
    """The file that a row of a column of images holds or names."""
    if held is None or (held["bytes"] is None and held["path"] is None):
        raise UnreadableImageError("the row has no image")
    if held["bytes"] is not None:
        return BytesIO(held["bytes"])
    if "://" in held["path"]:
        raise UnreadableImageError(
            "the row has an address on the network, expected the image or a file on this machine"
        )
    return held["path"]
