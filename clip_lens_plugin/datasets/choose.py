"""The source that fits whatever a user calls a data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from clip_lens_plugin.datasets.folder import FolderSource
from clip_lens_plugin.datasets.hub_dataset import HuggingFaceSource
from clip_lens_plugin.datasets.image_folder import ImageFolderError, find_images
from clip_lens_plugin.datasets.labelled import LabelledSource
from clip_lens_plugin.datasets.shards import ShardSource
from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.datasets.streams.hub_stream import HuggingFaceStream
from clip_lens_plugin.datasets.streams.stream import StreamSource
from clip_lens_plugin.datasets.torch_dataset import TorchSource
from clip_lens_plugin.labelling.columns import column_given
from clip_lens_plugin.labelling.given import GivenLabels
from clip_lens_plugin.labelling.values import LabelOrder

_HUGGING_FACE = ("datasets.arrow_dataset", "datasets.iterable_dataset", "datasets.dataset_dict")


def as_source(
    dataset: Any,
    *,
    labels: GivenLabels | None = None,
    label_column: str | None = None,
    label_order: LabelOrder | None = None,
) -> ImageSource:
    """A data set of any supported kind, with samples at positions, and labels of its own or given ones.

    Args:
        dataset: an :class:`ImageSource`; the path of a folder of images, or of one that holds .tar files and no
            images; the address of a .tar file, or of several in braces; a torch ``Dataset`` with a length; a
            Hugging Face ``datasets.Dataset``.
        labels: in the place of the data set's own, by the names of the samples: a file, ImageNet's devkit or a
            dictionary; see :func:`~clip_lens_plugin.labelling.given.read_labels`.
        label_column: that holds the labels of a Hugging Face data set, of shards (a member's suffix, or a key of their
            .json members) or of the file ``labels``.
        label_order: "imagenet" where the whole numbers in ``labels`` are positions in ImageNet's list of classes.

    Raises:
        TypeError: if it is a stream, or of another kind.
        ValueError: if it is empty, the source's own class cannot use it, or labels do not match.
        FileNotFoundError: if a shard, or the file of labels, is missing.
    """
    if label_order is not None and labels is None:
        raise ValueError("label_order says what the numbers in given labels are: give labels as well.")
    source = _source(dataset, None if labels is not None else label_column, labels is None)
    if not len(source):
        raise ValueError(f"The {source.description} is empty.")
    return source if labels is None else LabelledSource(source, labels, label_order, label_column)


def as_collected(
    dataset: Any,
    *,
    labels: GivenLabels | None = None,
    label_column: str | None = None,
    label_order: LabelOrder | None = None,
) -> ImageSource | StreamSource:
    """What :func:`as_source` gives, or a stream as a source of samples in order of arrival.

    Raises:
        TypeError, ValueError, FileNotFoundError: as from :func:`as_source`, and if the stream cannot be resumed.
    """
    names = {kind.__name__ for kind in type(dataset).__mro__ if kind.__module__ in _HUGGING_FACE}
    if not isinstance(dataset, StreamSource) and not names & {"IterableDataset", "IterableDatasetDict"}:
        return as_source(dataset, labels=labels, label_column=label_column, label_order=label_order)
    if labels is not None:
        raise ValueError(
            "Labels by name cannot be given with a stream, whose names are not known before it ends: give them later, "
            "as to 'clip-lens ablate STORE --labels', or label_column= where the stream holds them."
        )
    if not isinstance(dataset, StreamSource):
        return HuggingFaceStream(dataset, label_column=label_column)
    if label_column is not None:
        raise ValueError(_no_columns(label_column, f"a {type(dataset).__name__}"))
    return dataset


def _source(dataset: Any, label_column: str | None, labelled: bool) -> ImageSource:
    if isinstance(dataset, str | Path):
        return _at(dataset, label_column, labelled)
    # By the name of the module, so that `datasets` is imported only where it has been already.
    if any(kind.__module__ in _HUGGING_FACE for kind in type(dataset).__mro__):
        return HuggingFaceSource(dataset, label_column=label_column, labelled=labelled)
    if label_column is not None and isinstance(dataset, ImageSource | Dataset):
        raise ValueError(_no_columns(label_column, f"a {type(dataset).__name__}"))
    if isinstance(dataset, ImageSource):
        return dataset
    if isinstance(dataset, Dataset):
        return TorchSource(dataset)
    given = f"a {type(dataset).__name__}"
    mend = " Give the loader's data set: loader.dataset." if isinstance(dataset, DataLoader) else ""
    raise TypeError(
        f"{given} is no data set that can be read here; expected a folder, .tar shards by their path (several: "
        f"ShardSource([...])), a torch Dataset, a Hugging Face Dataset or an ImageSource; by "
        f"collect also a Hugging Face IterableDataset.{mend}"
    )


def _at(path: str | Path, label_column: str | None, labelled: bool) -> ImageSource:
    text = os.fspath(path)
    folder = Path(path)
    shards = "{" in text or text.endswith(".tar")
    if folder.is_dir():
        shards = any(folder.glob("*.tar")) and not _has_images(folder)
    if shards:
        return ShardSource(path, label_column=label_column, labelled=labelled)
    if "://" in text:
        raise ValueError(f"{text} is no .tar file; of addresses, only those of .tar files are read, braces allowed.")
    if label_column is not None:
        raise ValueError(_no_columns(label_column, f"the folder {path}"))
    return FolderSource(path)


def _no_columns(label_column: str, what: str) -> str:
    return (
        f"{column_given(label_column)} is for Hugging Face data sets, "
        f"shards and files of labels; {what} has no columns."
    )


def _has_images(folder: Path) -> bool:
    try:
        return bool(find_images(folder, 1))
    except ImageFolderError:
        return False
