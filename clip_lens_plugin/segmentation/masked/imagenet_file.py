"""ImageNet-Segmentation's file as it is distributed: gtsegs_ijcv.mat, MATLAB 7.3, which is HDF5.

Source: Guillaumin, Küttel and Ferrari, "ImageNet Auto-Annotation with Segmentation Propagation", IJCV 110 (2014): 4,276
images of 445 classes. ``/value/img`` and ``/value/gt`` hold a reference for each image [n, 1]: to its pixels
[3, width, height], and to a list of references to its masks [width, height], of which the first is taken, as Chefer et
al. and Gandelsman et al. take it. ``/value/id`` holds names, ``/value/target`` WordNet ids, as letters of 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from clip_lens_plugin.arguments import checked_index
from clip_lens_plugin.files.given import refuse_not_regular
from clip_lens_plugin.images.pictures import MOST_PIXELS, upright_rgb
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.labelling.wordnet import is_wordnet_id, text_of
from clip_lens_plugin.segmentation.masked.dataset import MaskedImage
from clip_lens_plugin.segmentation.masked.mask_files import read_id_names

MOST_LETTERS = 1024
"""Of a name in the file."""


class ImageNetSegmentation:
    """The images and masks of ``gtsegs_ijcv.mat``; the text of an image is its class in words.

    The file is read an image at a time, by h5py (``pip install "clip_lens_plugin[segmentation]"``).

    Attributes:
        ids: the WordNet id of each image.
        texts: the words of every class, once each, in the order of the ids: open_clip's for ImageNet's 1,000 classes,
            the first of WordNet's for others.
    """

    def __init__(self, path: str | Path, names: str | Path | None = None) -> None:
        """Reads the names of all images.

        Args:
            path: of the file.
            names: file with a WordNet id and a text on each line, for classes that are to be called otherwise.

        Raises:
            ModuleNotFoundError: a ValueError too, if h5py is not installed.
            FileNotFoundError: if there is no such file.
            ValueError: if ``names`` is no such file, or the file is not of the layout at the head of this file.
        """
        self.path = Path(path)
        called = {} if names is None else read_id_names(Path(names))
        with self._opened() as file:
            images, masks = (_of_file(file, f"value/{name}", self.path) for name in ("img", "gt"))
            if images.shape != masks.shape or images.ndim != 2 or images.shape[1] != 1 or not len(images):
                raise ValueError(
                    f"{self.path} has /value/img of shape {images.shape} and /value/gt of {masks.shape}, expected "
                    f"(n, 1) of both: it is not ImageNet-Segmentation's gtsegs_ijcv.mat."
                )
            n = len(images)
            of_images = self._letters(file, "id", n) or [f"image {i}" for i in range(n)]
            ids = self._letters(file, "target", n) or [name.split("_")[0] for name in of_images]
        strange = [each for each in ids if not is_wordnet_id(each)]
        if strange:
            raise ValueError(
                f"{self.path} gives {len(strange):,} of {n:,} images no WordNet id in /value/target or /value/id, such "
                f"as n02085620; the first is {strange[0]!r:.60}."
            )
        self._names, self.ids = of_images, tuple(ids)
        self._words = {each: called.get(each) or text_of(each) for each in sorted(set(ids))}

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return f"{len(self):,} images of {self.path.name}"

    @property
    def texts(self) -> Sequence[str]:
        """The words of every class."""
        return list(dict.fromkeys(self._words.values()))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: Any, /) -> MaskedImage:
        i = checked_index("image", position, len(self))
        name = self._names[i]
        with self._opened() as file:
            pixels = self._pixels(file, file["value/img"][i, 0], name)
            masks = self._object(file, file["value/gt"][i, 0], f"masks of {name}")
            if masks.dtype.kind == "O":
                masks = self._object(file, np.ravel(masks[()])[0], f"mask of {name}")
            found = self._read(masks, f"mask of {name}", 2).T
        values = np.unique(found)
        if not set(values.tolist()) <= {0, 1}:
            raise ValueError(f"{self.path}: the mask of {name} holds {few([*map(str, values)])}, expected 0 and 1.")
        mask: Bool[np.ndarray, "height width"] = found.astype(bool)
        return MaskedImage(name, upright_rgb(Image.fromarray(pixels)), self._words[self.ids[i]], mask)

    def _pixels(self, file: Any, reference: Any, name: str) -> np.ndarray:
        found = self._read(self._object(file, reference, f"pixels of {name}"), f"image {name}", 3)
        if found.dtype != np.uint8 or found.shape[0] != 3:
            raise ValueError(
                f"{self.path}: image {name} is {found.dtype} of shape {found.shape}, expected uint8 [3, width, height]."
            )
        return np.ascontiguousarray(found.transpose(2, 1, 0))

    def _read(self, held: Any, what: str, sides: int) -> np.ndarray:
        if held.ndim != sides or held.size > 3 * MOST_PIXELS or held.dtype.kind not in "ub" or not held.size:
            raise ValueError(
                f"{self.path}: the {what} is {held.dtype} of shape {held.shape}, expected whole numbers in {sides} "
                f"dimensions."
            )
        return held[()]

    def _letters(self, file: Any, name: str, n: int) -> list[str] | None:
        """A text for each image, which MATLAB keeps as letters of 16 bits; None if there are none."""
        if name not in file["value"]:
            return None
        references = _of_file(file, f"value/{name}", self.path)
        if references.shape != (n, 1):
            raise ValueError(f"{self.path} has /value/{name} of shape {references.shape}, expected {(n, 1)}.")
        found = []
        for i, reference in enumerate(references[:, 0]):
            held = self._object(file, reference, f"{name} {i}")
            if held.dtype != np.uint16 or held.size > MOST_LETTERS:
                raise ValueError(f"{self.path}: /value/{name} {i} is {held.dtype}, expected letters of 16 bits.")
            found.append(np.ravel(held[()]).astype("<u2").tobytes().decode("utf-16-le", "replace"))
        return found

    def _object(self, file: Any, reference: Any, what: str) -> Any:
        import h5py

        try:
            held = file[reference] if reference else None
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{self.path}: the {what} cannot be found: {error}.") from error
        if not isinstance(held, h5py.Dataset) or held.is_virtual or held.external:
            raise ValueError(f"{self.path}: the {what} are not in this file.")
        return held

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            import h5py
        except ModuleNotFoundError as error:
            raise NoHdf5Error(
                f"{self.path.name} is a file of HDF5, which h5py reads: pip install "
                f'"clip_lens_plugin[segmentation]", or pip install h5py.'
            ) from error
        if not self.path.exists():
            raise FileNotFoundError(f"There is no file {self.path}.")
        refuse_not_regular(self.path)
        if not h5py.is_hdf5(self.path):
            raise ValueError(
                f"{self.path} is no HDF5 file, which MATLAB 7.3 writes; expected ImageNet-Segmentation's "
                f"gtsegs_ijcv.mat as it is distributed."
            )
        with h5py.File(self.path, "r") as file:
            yield file


class NoHdf5Error(ModuleNotFoundError, ValueError):
    """h5py is not installed."""


def _of_file(file: Any, name: str, path: Path) -> Any:
    """A data set of this file: no link to another one is followed."""
    import h5py

    held: Any = file
    for part in name.split("/"):
        is_own = isinstance(held, h5py.Group) and isinstance(held.get(part, getlink=True), h5py.HardLink)
        if not is_own:
            raise ValueError(f"{path} has no /{name} of its own: it is not ImageNet-Segmentation's gtsegs_ijcv.mat.")
        held = held[part]
    if not isinstance(held, h5py.Dataset) or held.is_virtual or held.external or held.dtype.kind != "O":
        raise ValueError(f"{path} holds no references in /{name}: it is not ImageNet-Segmentation's gtsegs_ijcv.mat.")
    return held
