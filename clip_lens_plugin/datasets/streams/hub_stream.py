"""A Hugging Face stream: an ``IterableDataset``, as of ``load_dataset(..., streaming=True)``."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from PIL import Image

from clip_lens_plugin.datasets.hub_dataset import file_of, image_column_of
from clip_lens_plugin.datasets.source import Sample, checked_label, fingerprint_of
from clip_lens_plugin.datasets.streams.labels import StreamLabels
from clip_lens_plugin.datasets.streams.steps import (
    at_beginning,
    is_moved,
    listing,
    opened_steps,
    reads_shards,
    refuse_inexact,
    refuse_split,
    split_in_words,
)
from clip_lens_plugin.datasets.streams.stream import Arrival, State, checked_state
from clip_lens_plugin.images.pictures import UnreadableImageError, open_upright, upright_rgb
from clip_lens_plugin.labelling.columns import is_name
from clip_lens_plugin.plain_text import printable

KEYS = ("__key__", "id")
"""Columns that are taken for a sample's own key without being asked for; the first is webdataset's."""


class HuggingFaceStream:
    """One image column of a ``datasets.IterableDataset``, its label column and its key column if there are any.

    Rows come in the stream's order. A name is the sample's own key, as it is; where there is none, the number of
    arrival in eight digits, after "rank/" where several processes collect. Keys are as unique as the stream's are:
    those of a webdataset may come again in another shard.

    Pictures are opened here, never by ``datasets``. Of webdataset shards nothing is parsed but the label, from
    ``.cls`` or else ``label`` or ``cls`` of ``.json``; where a ``map`` or ``filter`` of the user stands between, texts,
    integers and JSON are. What such functions return must depend on the sample alone.
    """

    def __init__(
        self,
        dataset: Any,
        image_column: str | None = None,
        label_column: str | None = None,
        name_column: str | None = None,
    ) -> None:
        """Reads no row; tar files of this machine are looked through for damage.

        Args:
            dataset: a ``datasets.IterableDataset``, from its beginning.
            image_column: a column of type ``datasets.Image``; the only one if not given.
            label_column: a column of type ``datasets.ClassLabel`` or of integers, of shards a member's suffix or a key
                of their .json members; if not given, what looks like one, see :class:`StreamLabels`.
            name_column: a column of texts or integers with the sample's own key; ``__key__`` or ``id`` if not given.

        Raises:
            TypeError: if it is no such data set.
            ValueError: if it has splits, its columns are not known or not what is expected, it was moved on by
                ``load_state_dict``, or it has a step that cannot be resumed sample for sample, such as ``shuffle``.
            FileNotFoundError: if a file of this machine is missing.
        """
        import datasets

        _check_kind(dataset)
        refuse_inexact(dataset)
        opened, parsed = opened_steps(dataset)
        features = opened.features
        self._image_column = image_column_of(features, image_column, type(self).__name__)
        self._members = reads_shards(dataset) and not parsed
        self._labels = StreamLabels(features, label_column, self._members)
        self._name_column = _name_column(features, name_column)
        chosen = [self._image_column, self._labels.column, self._name_column]
        columns = list(dict.fromkeys(column for column in chosen if column is not None))
        rows = opened.with_format(None).select_columns(columns)
        rows = rows.cast_column(self._image_column, datasets.Image(decode=False))
        if self._members and self._labels.column is not None:
            rows = rows.cast_column(self._labels.column, datasets.Value("binary"))
        self._rows = self._live = rows
        self._part = ""
        name = f" {dataset.info.dataset_name}" if dataset.info.dataset_name else ""
        split = "" if dataset.split is None else f", split {dataset.split}"
        self._description = f"Hugging Face stream{name}{split}"
        self._beginning = checked_state(rows.state_dict(), self._description)
        self._fingerprint = fingerprint_of(
            f"hugging face stream {split_in_words(dataset)} {self._beginning} {features}",
            self.classes,
            [*listing(opened), *((str(column), -2) for column in chosen)],
        )

    def __getstate__(self) -> dict[str, Any]:
        """Without the stream itself: other processes open what arrived in this one."""
        return {**self.__dict__, "_rows": None, "_live": None}

    @property
    def description(self) -> str:
        """The stream's own name and its split."""
        return self._description

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of its label column; None if it has none."""
        return self._labels.classes

    @property
    def label_notes(self) -> tuple[str, ...]:
        """What is taken for a class."""
        return (self._labels.note,)

    def arrivals(self, state: State | None = None, first: int = 0) -> Iterator[Arrival]:
        """The samples after a ``state``, numbered from ``first``; all if there is none.

        What ``datasets`` raises where the stream breaks passes as it is.
        """
        self._live = at_beginning(self._rows)
        if state is not None:
            self._live.load_state_dict(copy.deepcopy(state))
        for number, row in enumerate(self._live, first):
            key = None if self._name_column is None else row[self._name_column]
            name = f"{self._part}{number:08d}" if key is None else printable(str(key))
            label = None if self._labels.column is None else row[self._labels.column]
            yield Arrival(number, name, row[self._image_column], label)

    def state(self) -> State:
        """Where ``datasets`` says that the stream stands after the latest arrival."""
        return checked_state(self._live.state_dict(), self._description)

    def name(self, arrival: Arrival) -> str:
        """What its name column says of an arrival, else its number in eight digits."""
        return arrival.name

    def read(self, arrival: Arrival) -> Sample:
        """The picture of an arrival, turned upright and in RGB, and its label.

        Raises:
            UnreadableImageError: if it holds no usable picture or label; the message says why.
            ValueError: if the label is beyond the classes.
        """
        label = checked_label(self._labels.number(arrival.label, arrival.name), self.classes, arrival.name)
        return Sample(_opened(arrival.image), label)

    def fingerprint(self) -> str:
        """Of the stream's split, beginning, features, columns and files, as far as they are known before it is read."""
        return self._fingerprint

    def split(self, rank: int, world: int) -> HuggingFaceStream:
        """The samples of process ``rank``: its shards where they can be shared out, else every ``world``-th sample."""
        from datasets.distributed import split_dataset_by_node

        refuse_split(self._rows)
        part = copy.copy(self)
        part._rows = part._live = split_dataset_by_node(self._rows, rank, world)
        part._part = f"{rank}/"
        return part


def _check_kind(dataset: Any) -> None:
    import datasets

    if isinstance(dataset, datasets.IterableDatasetDict):
        splits = ", ".join(map(repr, dataset)) or "none"
        raise ValueError(f"The stream has splits ({splits}); choose one, as in stream['train'].")
    if not isinstance(dataset, datasets.IterableDataset):
        raise TypeError(f"HuggingFaceStream was given {type(dataset).__name__}; expected a datasets.IterableDataset.")
    if dataset.features is None:
        raise ValueError(
            "The columns of the stream are not known, as after map(): say what they are, map(..., features=...) or "
            "stream.cast(datasets.Features({...}))."
        )
    if dataset.epoch:
        raise ValueError(
            f"The stream is set to epoch {dataset.epoch}, which is another order of the same samples: "
            f"stream.set_epoch(0)."
        )
    if is_moved(dataset):
        raise ValueError(
            "The stream was moved on by load_state_dict, and collect keeps its place itself: give it from the "
            "beginning, or from a fixed sample by stream.skip(n)."
        )


def _name_column(features: Any, wanted: str | None) -> str | None:
    named = [name for name, feature in features.items() if is_name(feature)]
    if wanted is None:
        return next((column for column in KEYS if column in named), None)
    if wanted not in named:
        raise ValueError(f"There is no column {wanted!r} of texts or integers; columns of those types are {named}.")
    return wanted


def _opened(held: Any) -> Image.Image:
    """The picture of a row, which a function of the user may have made."""
    if isinstance(held, Image.Image):
        return upright_rgb(held)
    if isinstance(held, bytes):
        return open_upright(BytesIO(held))
    if held is None or isinstance(held, dict):
        return open_upright(file_of(held))
    raise UnreadableImageError(f"the row holds a {type(held).__name__}, expected an image")
