"""A map-style data set of torch or torchvision."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Sized
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from clip_lens_plugin.arguments import checked_index
from clip_lens_plugin.datasets.source import Sample, checked_label, fingerprint_of, unique_names
from clip_lens_plugin.files.given import NotRegularError, refuse_not_regular
from clip_lens_plugin.images.pictures import UnreadableImageError, unreadable_where, upright_rgb
from clip_lens_plugin.images.pixel_tensors import refuse_not_pixels
from clip_lens_plugin.labelling.columns import number_of
from clip_lens_plugin.labelling.names import classes_note
from clip_lens_plugin.labelling.wordnet import worded
from clip_lens_plugin.plain_text import printable

_DECODERS_RAISE = (ValueError, SyntaxError, EOFError, struct.error, zlib.error)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class TorchSource:
    """Items are ``(image, label)`` or an image: a PIL picture, or a float tensor [3, height, width].

    Names are the paths of torchvision's ImageFolder and its like, inside its root; else the position in eight
    digits, for a ``Subset`` the position in the whole. The fingerprint holds the data set's ``repr`` as well, so
    that a data set with a seed should print it.

    The default loader of torchvision drops transparency and the upper bits of 16 before a picture gets here;
    a :class:`FolderSource` of the same folder keeps them.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        """Reads no item.

        Args:
            dataset: with a length; see the class for its items.

        Raises:
            TypeError: if it is a stream or has no length.
        """
        if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
            raise TypeError(
                f"{type(dataset).__name__} is a stream: its samples have no positions, so that a run could be neither "
                "resumed exactly nor split. Of streams, collect() takes a Hugging Face datasets.IterableDataset; else "
                "give a data set with __getitem__ and __len__, a folder, or the .tar files of a webdataset by path."
            )
        self._dataset = dataset
        self._n = len(dataset)
        self._whole, positions = _whole(dataset, self._n)
        self._files = self._names = None
        files = _files(self._whole)
        if files is not None:
            self._files = [files[i] for i in positions]
            root = os.fspath(self._whole.root)
            self._names = unique_names(_inside(root, file) for file in self._files)
        elif isinstance(dataset, Subset):
            self._names = unique_names(f"{i:08d}" for i in positions)
        self._given_names = _class_names(self._whole)
        self._classes = None if self._given_names is None else worded(self._given_names)
        self._code = None if self._given_names is None else {name: i for i, name in enumerate(self._given_names)}

    @property
    def description(self) -> str:
        """The class of the data set, and whether it is a part of it."""
        part = "part of the " if isinstance(self._dataset, Subset) else ""
        return f"{part}torch data set {type(self._whole).__name__}"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The data set's own ``classes``, in words where they are WordNet ids; None if it has none."""
        return self._classes

    @property
    def label_notes(self) -> tuple[str, ...]:
        """What is taken for a class."""
        if self._classes is None:
            return ("labels, if its items have any, are whole numbers without names: it has no classes",)
        return (classes_note(self._classes, f"the data set {type(self._whole).__name__}"),)

    def __len__(self) -> int:
        return self._n

    def name(self, position: int) -> str:
        """The path of the item at a position, or the position in eight digits: see the class."""
        position = checked_index("sample", position, self._n)
        return f"{position:08d}" if self._names is None else self._names[position]

    def read(self, position: int) -> Sample:
        """The item at a position, turned upright and converted to RGB if it is a picture.

        Raises:
            UnreadableImageError: if reading the item raises OSError or an error of PIL, its pixels cannot be
                decoded, or a tensor holds NaN or infinity.
            UnreachableError: if the error says that a file is gone, or that the disk or the machine fails.
            ValueError: if the item is of another kind than the class says, or a label is beyond the classes.
        """
        position = checked_index("sample", position, self._n)
        with unreadable_where(_is_of_a_picture):
            if self._files is not None:
                refuse_not_regular(self._files[position])
            item = self._dataset[position]
        image, label = item if isinstance(item, tuple | list) and len(item) == 2 else (item, -1)
        name = self.name(position)
        number = number_of(label, "The label", self._code, name)
        return Sample(_image(image, name), checked_label(number, self._classes, name))

    def fingerprint(self) -> str:
        """Of the data set's ``repr``, its classes, and each item's name and, if it is a file, size, in their order."""
        sizes = [-1] * self._n if self._files is None else map(_size, self._files)
        names = (self.name(i) for i in range(self._n))
        return fingerprint_of(f"torch {_printed(self._whole)}", self._given_names, zip(names, sizes, strict=True))


def _whole(dataset: Any, n: int) -> tuple[Any, list[int]]:
    """The data set that a subset, or a subset of one, is taken from, and the positions in it."""
    positions = list(range(n))
    while isinstance(dataset, Subset):
        positions = [int(dataset.indices[i]) for i in positions]
        dataset = dataset.dataset
    return dataset, positions


def _files(dataset: Any) -> list[str] | None:
    """Paths that a data set like torchvision's ImageFolder lists."""
    if not isinstance(getattr(dataset, "root", None), str | os.PathLike):
        return None
    for attribute in ("samples", "imgs"):
        listed = getattr(dataset, attribute, None)
        if isinstance(listed, list | tuple) and len(listed) == len(dataset):
            paths = [entry[0] for entry in listed if isinstance(entry, list | tuple) and entry]
            if len(paths) == len(listed) and all(isinstance(path, str | os.PathLike) for path in paths):
                return [os.fspath(path) for path in paths]
    return None


def _inside(root: str, file: str) -> str:
    prefix = os.path.join(root, "")
    path = file.removeprefix(prefix) if file.startswith(prefix) else os.path.relpath(file, root)
    return printable(path.replace(os.sep, "/"))


def _size(file: str) -> int:
    try:
        return os.path.getsize(file)
    except OSError:
        return -1


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    """``classes`` of the data set, or the keys of its ``class_to_idx``, in the order of their numbers.

    Raises:
        ValueError: if the two say different things.
    """
    classes, numbers = getattr(dataset, "classes", None), getattr(dataset, "class_to_idx", None)
    # torchvision's ImageNet has a tuple of synonyms for each class.
    listed = classes if isinstance(classes, list | tuple) else []
    words = [(name,) if isinstance(name, str) else name for name in listed]
    if not all(isinstance(each, list | tuple) and all(isinstance(word, str) for word in each) for each in words):
        words = []
    code = numbers if isinstance(numbers, dict) and all(isinstance(key, str) for key in numbers) else {}
    if not words and sorted(code.values(), key=str) == sorted(range(len(code)), key=str):
        words = [(name,) for name in sorted(code, key=code.__getitem__)]
    for i, each in enumerate(words):
        if len(each) == 1 and code.get(each[0], i) != i:
            raise ValueError(
                f"The data set's classes and class_to_idx differ: {each[0]!r} is number {i} in the one and "
                f"{code[each[0]]!r} in the other. Set dataset.classes in the order of its labels."
            )
    return tuple(printable(", ".join(each)) for each in words) or None


def _printed(dataset: Any) -> str:
    """The data set's own repr without its folder and without addresses in memory, which change from run to run."""
    if type(dataset).__repr__ is object.__repr__:
        return type(dataset).__qualname__
    root = getattr(dataset, "root", None)
    text = repr(dataset)
    if isinstance(root, str | os.PathLike) and os.fspath(root):
        text = text.replace(os.fspath(root), "")
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _is_of_a_picture(error: Exception) -> bool:
    if isinstance(error, (OSError, NotRegularError, *_BOMBS)):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return isinstance(error, _DECODERS_RAISE) and raised_in.partition(".")[0] == "PIL"


def _image(image: Any, name: str) -> Image.Image | Tensor:
    if isinstance(image, Image.Image):
        return upright_rgb(image)
    if not isinstance(image, Tensor):
        given = type(image).__name__
    else:
        refuse_not_pixels(image, f"{name!r} must be a PIL picture, or pixels that model.preprocess made")
        if image.ndim == 3 and len(image) == 3:
            if not torch.isfinite(image).all():
                raise UnreadableImageError("values are NaN or infinite")
            return image
        given = f"a tensor of {image.dtype} and shape {list(image.shape)}"
    raise ValueError(
        f"The data set gave {given} for {name!r}; expected (image, label) or an image, where an image is a PIL picture "
        "or a preprocessed float tensor of shape [3, height, width]. Wrap the data set, or set its transform."
    )
