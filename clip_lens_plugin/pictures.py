"""One picture of any kind as upright RGB of 8 bits, or the reason why it cannot be used."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

GREATEST_ASPECT = 100
"""Longer side over shorter; beyond it, scaling the shorter side to the input size would fill the memory."""


class UnreadableImageError(ValueError):
    """One file is no picture that can be used; the message is the reason."""


def open_upright(file: str | Path | BytesIO) -> Image.Image:
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

    Raises:
        UnreadableImageError: if its pixels cannot be decoded or it is too narrow.
    """
    with unreadable_where():
        _check_shape(*picture.size)
        picture.load()
        return _rgb(ImageOps.exif_transpose(picture))


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
