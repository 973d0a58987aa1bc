"""The images that a user gives to an analysis: a path, pictures or preprocessed pixels.

A path is that of a picture or of a folder of pictures, with its subfolders; pictures are PIL's, paths, or open binary
files, one or a list of them. They are prepared as the model was trained, a run at a time. A tensor is taken as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import IOBase
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from clip_lens_plugin.datasets.image_folder import ImageFolderError, find_images
from clip_lens_plugin.files.given import UnreachableError
from clip_lens_plugin.images.photographs import Photograph, Photographs, names_of
from clip_lens_plugin.images.pictures import UnreadableImageError, refuse_no_file, upright_picture
from clip_lens_plugin.images.preprocessed import prepared
from clip_lens_plugin.model.inputs.pixels import PixelError, check_form, checked, one_image, unlooked
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.plain_text import printable

_ONE = (Image.Image, str, os.PathLike, IOBase)


@dataclass(frozen=True)
class GivenImages:
    """b images for a model.

    Attributes:
        model: that is to take them.
        tensor: preprocessed pixels [b, 3, height, width], if such were given, or made of the pictures already.
        photographs: the pictures, if such were given.
    """

    model: ImageModel
    tensor: Float[Tensor, "b 3 height width"] | None
    photographs: Photographs | None

    def __len__(self) -> int:
        if self.tensor is not None:
            return len(self.tensor)
        return len(self.photographs or ())

    def pixels(self, rows: slice) -> Float[Tensor, "s 3 height width"]:
        """What the model takes of some images, on its device and in its dtype where pictures were given.

        Raises:
            UnreadableImageError: if a picture cannot be used; the message names it.
            ValueError: if the model has no preprocessing, or another's.
        """
        if self.tensor is not None:
            return self.tensor[rows]
        cfg, chosen = self.model.cfg, (self.photographs or ())[rows]
        made = prepared(map(_opened, chosen), self.model.preprocess, cfg.model_name, cfg.image_size)
        return made.to(device=cfg.device, dtype=cfg.dtype)

    @contextmanager
    def checked(self, broken: Literal["refused", "said"] = "refused") -> Iterator[None]:
        """Looks at all given pixels once; inside, runs of the model do not. Of pictures, pixels are what they must be.

        Raises:
            PixelError: see :func:`~clip_lens_plugin.model.inputs.pixels.checked`.
        """
        with unlooked() if self.tensor is None else checked(self.model, self.tensor, broken):
            yield


def given_images(model: ImageModel, images: Any) -> GivenImages:
    """The images that were given, see the head of this file.

    Raises:
        PixelError: if they are neither pictures nor a floating-point tensor of the model's shape.
        ImageFolderError: if a path leads nowhere, or to a folder without pictures.
        UnreadableImageError: if a folder holds links that lead out of it, or pipes named as pictures.
        ValueError: if there is no image, or the model has no preprocessing for pictures.
    """
    if isinstance(images, GivenImages):
        return images
    found = _photographs(images)
    if found is None:
        if hasattr(images, "readout"):
            raise PixelError(
                f"Images are expected, got a {type(images).__name__}, which holds no pixels: give the photographs, the "
                f"path of one or of a folder."
            )
        check_form(model, images)
        return _some(GivenImages(model, images, None))
    if model.preprocess is None:
        prepared([], None, model.cfg.model_name, model.cfg.image_size)  # Says so, and how to mend it.
    return _some(GivenImages(model, None, found))


def given_image(model: ImageModel, image: Any) -> GivenImages:
    """The one image that was given: a path, a picture, or preprocessed pixels [3, height, width] (or a batch of one).

    Raises:
        PixelError: if it is none of these.
        ValueError: if it is several.
    """
    if isinstance(image, Tensor):
        return GivenImages(model, image if image.ndim == 4 and len(image) == 1 else one_image(model, image), None)
    found = _photographs(image)
    if found is None:
        one_image(model, image)  # Says what is expected.
        raise AssertionError
    if len(found) != 1:
        raise ValueError(f"One image is expected, got {len(found)}: give one picture, or the path of one.")
    return given_images(model, image)


def is_images(given: Any) -> bool:
    """Whether it is a path, a picture or pixels, and not a position or contributions."""
    return isinstance(given, _ONE) or (isinstance(given, Tensor) and given.ndim > 2)


def _some(given: GivenImages) -> GivenImages:
    if len(given) == 0:
        raise ValueError(
            "No images were given; give a path, pictures, or a tensor [b, 3, height, width] of one or more."
        )
    return given


def _photographs(given: Any) -> Photographs | None:
    """The pictures; None if what was given is something else."""
    if isinstance(given, str | os.PathLike) and os.path.isdir(given):
        root, left_out = Path(given), []
        found = find_images(root, left_out=left_out)
        if left_out:
            raise UnreadableImageError(
                f"{printable(str(given))}: {left_out[0].name!r} is {left_out[0].reason}"
                f"{f', and so on for {len(left_out)} files' if len(left_out) > 1 else ''}. Give the paths of the "
                f"pictures in a list, whose links are followed, or a folder without such files. (collect skips them.)"
            )
        return tuple(Photograph(str(path), path.relative_to(root).as_posix()) for path in found)
    if isinstance(given, _ONE):
        given = [given]
    if not isinstance(given, Sequence) or not all(isinstance(each, _ONE) for each in given):
        return None
    sources = [_source(each, position) for position, each in enumerate(given)]
    names = iter(names_of([each for each in sources if isinstance(each, str)]))
    return tuple(
        Photograph(each, next(names) if isinstance(each, str) else f"image {position}")
        for position, each in enumerate(sources)
    )


def _opened(photograph: Photograph) -> Image.Image:
    try:
        return photograph.open()
    except (UnreadableImageError, UnreachableError) as error:
        where = photograph.source if isinstance(photograph.source, str) else photograph.name
        raise UnreadableImageError(
            f"{printable(where)} cannot be used: {error}. Leave it out, or collect the folder, which skips such."
        ) from error


def _source(given: Any, position: int) -> str | Image.Image:
    """The path of a file, or the picture itself."""
    if not isinstance(given, str | os.PathLike):
        return upright_picture(given, f"Image {position}")
    path = os.fspath(given)
    refuse_no_file(given, f"Picture {position}, {path!r},")
    if not os.path.exists(path):
        raise ImageFolderError(f"There is no picture {str(path)!r}. Give the path of a file, or of a folder of files.")
    return str(path)
