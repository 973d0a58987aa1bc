"""The source that fits whatever a user calls a data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from clip_lens_plugin.images import ImageFolderError, find_images
from clip_lens_plugin.sources.folder import FolderSource
from clip_lens_plugin.sources.hugging_face import HuggingFaceSource
from clip_lens_plugin.sources.shards import ShardSource
from clip_lens_plugin.sources.source import ImageSource
from clip_lens_plugin.sources.torch_dataset import TorchSource

_HUGGING_FACE = ("datasets.arrow_dataset", "datasets.iterable_dataset", "datasets.dataset_dict")


def as_source(dataset: Any) -> ImageSource:
    """A data set of any supported kind, with samples at positions.

    Args:
        dataset: an :class:`ImageSource`; the path of a folder of images, or of one that holds .tar files and no
            images; the address of a .tar file, or of several in braces; a torch ``Dataset`` with a length; a
            Hugging Face ``datasets.Dataset``.

    Raises:
        TypeError: if it is a stream, or of another kind.
        ValueError: if it is empty, or the source's own class cannot use it.
        FileNotFoundError: if a shard is missing.
    """
    source = _source(dataset)
    if not len(source):
        raise ValueError(f"The {source.description} is empty.")
    return source


def _source(dataset: Any) -> ImageSource:
    if isinstance(dataset, ImageSource):
        return dataset
    if isinstance(dataset, str | Path):
        return _at(dataset)
    # By the name of the module, so that `datasets` is imported only where it has been already.
    if any(kind.__module__ in _HUGGING_FACE for kind in type(dataset).__mro__):
        return HuggingFaceSource(dataset)
    if isinstance(dataset, Dataset):
        return TorchSource(dataset)
    given = f"a {type(dataset).__name__}"
    mend = " Give the loader's data set: loader.dataset." if isinstance(dataset, DataLoader) else ""
    raise TypeError(
        f"{given} is no data set that can be read here; expected a folder, .tar shards by their path (several: "
        f"ShardSource([...])), a torch Dataset, a Hugging Face Dataset or an ImageSource.{mend}"
    )


def _at(path: str | Path) -> ImageSource:
    text = os.fspath(path)
    folder = Path(path)
    if folder.is_dir():
        return ShardSource(path) if any(folder.glob("*.tar")) and not _has_images(folder) else FolderSource(path)
    if "{" in text or text.endswith(".tar"):
        return ShardSource(path)
    if "://" in text:
        raise ValueError(f"{text} is no .tar file; of addresses, only those of .tar files are read, braces allowed.")
    return FolderSource(path)


def _has_images(folder: Path) -> bool:
    try:
        return bool(find_images(folder, 1))
    except ImageFolderError:
        return False
