"""One picture of any kind as upright RGB of 8 bits, or the reason why it cannot be used."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase, IOBase, RawIOBase, TextIOBase
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

GREATEST_ASPECT = 100
"""Longer side over shorter; beyond it, scaling the shorter side to the input size would fill the memory."""

ORIENTATION = 0x0112
"""EXIF's number for how a camera was held."""

Picture = Image.Image | str | os.PathLike | BufferedIOBase | RawIOBase
"""What is taken for a picture: one that is open, or a file."""


class UnreadableImageError(ValueError):
    """One file is no picture that can be used; the message is the reason."""


def open_upright(file: str | os.PathLike | BufferedIOBase | RawIOBase) -> Image.Image:
    """The picture in RGB, turned as its EXIF orientation says; of an animation the first frame.

    Transparent pixels become white. Values of 16 bits are reduced to 8.

    Args:
        file: a path, or a binary file that can seek.

    Raises:
        UnreadableImageError: if it is no picture, is cut off, or is too large to open safely.
    """
    with unreadable_where(), Image.open(file) as opened:
        return upright_rgb(opened)


def upright_rgb(picture: Image.Image) -> Image.Image:
    """What :func:`open_upright` makes of a file, made of a picture that is open already.

    One that is so already comes back as it is. Of an animation it is the frame that the picture stands at.

    Raises:
        UnreadableImageError: if its pixels cannot be decoded or it is too narrow.
    """
    with unreadable_where():
        _check_shape(*picture.size)
        if _is_upright_rgb(picture):
            return picture
        picture.load()
        return _rgb(ImageOps.exif_transpose(picture))


def upright_pictures(given: Picture | Iterable[Picture]) -> Iterator[Image.Image]:
    """Pictures and files in RGB and upright, one after the other.

    Args:
        given: PIL pictures, paths, or binary files that can seek; or one of them.

    Raises:
        ValueError: if there is none, or a path is a folder's or an address on the network.
        UnreadableImageError: if one cannot be used; the message says which and why.
        TypeError: if something is of another kind.
    """
    if isinstance(given, Image.Image | str | os.PathLike | IOBase):
        given = [given]
    if not isinstance(given, Iterable) or isinstance(given, Mapping | bytes | np.ndarray | Tensor):
        raise TypeError(_no_pictures(given))
    position = -1
    for position, each in enumerate(given):
        yield _upright(each, position)
    if position < 0:
        raise ValueError("No picture was given; give one or more: model.prepare([picture]).")


def _upright(given: Any, position: int) -> Image.Image:
    named = f"Picture {position}"
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        named += f", {path!r},"
        if "://" in str(path):
            raise ValueError(f"{named} is an address on the network; expected the path of a file on this machine.")
        if os.path.isdir(path):
            raise ValueError(f"{named} is a folder; give its files: sorted(pathlib.Path(folder).glob('*.jpg')).")
    elif not isinstance(given, Image.Image | BufferedIOBase | RawIOBase):
        raise TypeError(f"{named}: {_no_pictures(given)}")
    try:
        return upright_rgb(given) if isinstance(given, Image.Image) else open_upright(given)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{named} cannot be used: {error}.") from error


def _no_pictures(given: Any) -> str:
    told = f"prepare takes PIL pictures or paths of files, got {type(given).__name__}"
    if isinstance(given, Tensor):
        return f"{told}. What is preprocessed already goes to the model itself: model(images)."
    if isinstance(given, np.ndarray):
        return (
            f"{told} of {given.dtype} and shape {list(given.shape)}. Make a picture of it: PIL.Image.fromarray(array)."
        )
    if isinstance(given, bytes):
        return f"{told}. The bytes of a file become a picture by PIL.Image.open(io.BytesIO(data))."
    if isinstance(given, TextIOBase):
        return f"{told}. Open the file in binary: open(path, 'rb')."
    return f"{told}. Open a picture by PIL.Image.open(file)."


def _is_upright_rgb(picture: Image.Image) -> bool:
    # Not a file's own class, which reads further frames into itself.
    if type(picture) is not Image.Image or picture.mode != "RGB" or "transparency" in picture.info:
        return False
    return picture.getexif().get(ORIENTATION, 1) == 1


@contextmanager
def unreadable_where(damaged: Callable[[Exception], bool] = lambda error: True) -> Iterator[None]:
    """Errors inside become :class:`UnreadableImageError`; so does a warning of a decompression bomb.

    Args:
        damaged: tells errors of a damaged picture from others, which pass as they are. Decoders raise nearly
            anything, so that by default every error counts.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UnreadableImageError:
        raise
    except Exception as error:
        if not damaged(error):
            raise
        raise UnreadableImageError(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of an unknown format"
    # The text of an OSError names the whole path; its strerror does not.
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return told.splitlines()[0]


def _check_shape(width: int, height: int) -> None:
    if max(width, height, 1) > GREATEST_ASPECT * min(width, height):
        raise UnreadableImageError(f"{width} x {height} pixels: too narrow, at most {GREATEST_ASPECT} to 1")


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "La":  # PIL converts it to nothing else.
        picture = picture.convert("LA")
    if picture.mode in ("F", "I") or picture.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(picture))).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        return Image.alpha_composite(white, clear).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey values to bytes: 16-bit integers by 257, floats from 0 to 1 by 255, others as they are."""
    if not np.isfinite(values).all():
        raise UnreadableImageError("pixels are NaN or infinite")
    if values.dtype.kind == "f":
        scaled = values * 255.0 if values.max(initial=0) <= 1 else values
    else:
        small = values.dtype.itemsize > 2 and values.max(initial=0) <= 255
        scaled = values if small else values / 257.0
    return np.asarray(scaled).round().clip(0, 255).astype(np.uint8)
