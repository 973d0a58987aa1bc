"""A Hugging Face data set with a column of images."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from clip_lens_plugin.arguments import checked_index
from clip_lens_plugin.pictures import UnreadableImageError, open_upright
from clip_lens_plugin.sources.source import Sample, checked_label, fingerprint_of


class HuggingFaceSource:
    """One image column and, if there is one, one label column of a ``datasets.Dataset``; other columns are not read.

    Names are positions in eight digits. A format of the data set ("torch") has no effect.

    The fingerprint rests on the data set's own. ``datasets`` draws that at random after a ``map`` with a function
    it cannot hash, and warns; such a data set should be saved and loaded again before a run that may be resumed.
    """

    def __init__(self, dataset: Any, image_column: str | None = None, label_column: str | None = None) -> None:
        """Reads no row.

        Args:
            dataset: a ``datasets.Dataset``.
            image_column: a column of type ``datasets.Image``; the only one if not given.
            label_column: a column of type ``datasets.ClassLabel`` or of integers; if not given, the only
                ``ClassLabel``, or integers under the name "label", or no labels.

        Raises:
            TypeError: if it is a stream, or no Hugging Face data set.
            ValueError: if it still has splits or a transform, or the columns are not what is expected.
        """
        import datasets

        _check_kind(dataset)
        self._image_column = _image_column(dataset.features, image_column)
        self._label_column = _label_column(dataset.features, label_column)
        label = None if self._label_column is None else dataset.features[self._label_column]
        self._classes = tuple(label.names) if isinstance(label, datasets.ClassLabel) else None
        columns = [self._image_column] + ([] if self._label_column is None else [self._label_column])
        self._fingerprint = fingerprint_of(
            f"hugging face {dataset._fingerprint} {len(dataset)}",
            self._classes,
            [*((column, -1) for column in dataset.column_names), *((column, -2) for column in columns)],
        )
        split = "" if dataset.split is None else f", split {dataset.split}"
        self._description = f"Hugging Face data set {dataset.info.dataset_name or ''}".rstrip() + split
        # Not decoded: a damaged image would be an error inside `datasets`, and a rotated one opened by other rules.
        rows = dataset.with_format(None).select_columns(columns)
        self._rows = rows.cast_column(self._image_column, datasets.Image(decode=False))

    @property
    def description(self) -> str:
        return self._description

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self._classes

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, position: int) -> str:
        return f"{checked_index('sample', position, len(self)):08d}"

    def read(self, position: int) -> Sample:
        row = self._rows[checked_index("sample", position, len(self))]
        label = -1 if self._label_column is None else row[self._label_column]
        known = -1 if label is None else checked_label(label, self._classes, self.name(position))
        return Sample(open_upright(_file(row[self._image_column])), known)

    def fingerprint(self) -> str:
        return self._fingerprint


def _check_kind(dataset: Any) -> None:
    import datasets

    if isinstance(dataset, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise TypeError(
            f"A {type(dataset).__name__} is a stream: its samples have no positions, so that a run could be neither "
            "resumed exactly nor split. Load it with streaming=False, or save it to disk."
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


def _image_column(features: Any, wanted: str | None) -> str:
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
            f"The data set has several image columns, {found}: HuggingFaceSource(dataset, image_column=...) chooses."
        )
    return found[0]


def _label_column(features: Any, wanted: str | None) -> str | None:
    import datasets

    found = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    integers = [name for name, feature in features.items() if "int" in str(getattr(feature, "dtype", None))]
    if wanted is not None:
        if wanted not in found + integers:
            raise ValueError(
                f"There is no label column {wanted!r} of class labels or integers; columns of those types are "
                f"{found + [name for name in integers if name not in found]}."
            )
        return wanted
    if len(found) > 1:
        raise ValueError(
            f"The data set has several label columns, {found}: HuggingFaceSource(dataset, label_column=...) chooses."
        )
    if found:
        return found[0]
    return "label" if "label" in integers else None


def _file(held: Any) -> str | BytesIO:
    if held is None or (held["bytes"] is None and held["path"] is None):
        raise UnreadableImageError("the row has no image")
    if held["bytes"] is not None:
        return BytesIO(held["bytes"])
    if "://" in held["path"]:
        raise UnreadableImageError(
            "the row has an address on the network, expected the image or a file on this machine"
        )
    return held["path"]
