"""One picture of any kind as upright RGB of 8 bits, or the reason why it cannot be used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from io import BufferedIOBase, BytesIO, IOBase, RawIOBase, TextIOBase
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from clip_lens_plugin.files.given import UnreachableError, is_unreachable, read_regular, reason_of
from clip_lens_plugin.images.decoders import quiet_and_alone, without_terminal

SUFFIXES = (
    ".avif",
    ".bmp",
    ".gif",
    ".jfif",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""Endings of the files that are read; files with other endings are passed over."""

GREATEST_ASPECT = 100
"""Longer side over shorter; beyond it, scaling the shorter side to the input size would fill the memory."""

MOST_PIXELS = 89_478_485
"""Where PIL's own bound, ``PIL.Image.MAX_IMAGE_PIXELS``, has been taken off."""

MOST_BYTES = 2**30
"""The largest file of a picture; as many pixels as allowed need less in any format."""

MOST_SCANS = 1000
"""Of a progressive JPEG, which are some ten; each takes a pass over all pixels."""

ORIENTATION = 0x0112
"""EXIF's number for how a camera was held."""

TURNS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture of each orientation upright."""

TILE_WIDTH, TILE_HEIGHT = 322, 323
"""TIFF's numbers."""

MOST_TILE_PIXELS = 2**24
"""Of a TIFF that is smaller."""

STRIP_PIXELS = 2**22
"""Pixels that are converted at once."""

Picture = Image.Image | str | os.PathLike | BufferedIOBase | RawIOBase
"""What is taken for a picture: one that is open, or a file."""


class UnreadableImageError(ValueError):
    """One file is no picture that can be used; the message is the reason."""


def open_upright(file: str | os.PathLike | BufferedIOBase | RawIOBase) -> Image.Image:
    """The picture in RGB, turned as its EXIF orientation says; of an animation the first frame.

    It is of one of the formats that :data:`SUFFIXES` stand for, whatever its own name. Transparent pixels become
    white. Values of 16 bits are reduced to 8.

    Args:
        file: a path, or a binary file that can seek.

    Raises:
        UnreadableImageError: if it is no picture, is cut off, or is too large to open safely.
        UnreachableError: if the place or the machine fails, so that nothing is known of the picture.
    """
    with unreadable_where():
        # In memory, because a file could vanish or shrink under its decoder.
        held = file if isinstance(file, BytesIO) else BytesIO(_content(file))
        with Image.open(held, formats=_formats()) as opened:
            _check_scans(opened, held)
            _check_tiles(opened)
            return upright_rgb(opened)


def _content(file: str | os.PathLike | BufferedIOBase | RawIOBase) -> bytes:
    if isinstance(file, str | os.PathLike):
        return read_regular(file, MOST_BYTES)
    file.seek(0)
    held = file.read(MOST_BYTES + 1) or b""
    if len(held) > MOST_BYTES:
        raise UnreadableImageError(f"more than {MOST_BYTES:,} bytes")
    return held


def upright_rgb(picture: Image.Image) -> Image.Image:
    """What :func:`open_upright` makes of a file, made of a picture that is open already.

    One that is so already comes back as it is. Of an animation it is the frame that the picture stands at.

    Raises:
        UnreadableImageError: if its pixels cannot be decoded, are too many, it is too narrow, or its pixels are yet
            to be decoded from a format that is not read.
        UnreachableError: if the place or the machine fails.
    """
    with unreadable_where():
        _check_shape(*picture.size)
        if _is_upright_rgb(picture):
            return picture
        _check_format(picture)
        with without_terminal() if picture.format == "TIFF" else nullcontext():
            picture.load()
        made = _rgb(picture)
        made.info = {}  # What has been heeded is not heeded again.
        turn = TURNS.get(_orientation(picture))
        return made if turn is None else made.transpose(turn)


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
        yield upright_picture(each, f"Picture {position}")
    if position < 0:
        raise ValueError("No picture was given; give one or more: model.prepare([picture]).")


def upright_picture(given: Any, named: str) -> Image.Image:
    """One of :func:`upright_pictures`, which a message calls ``named``; raises as that does."""
    if isinstance(given, str | os.PathLike):
        named += f", {os.fspath(given)!r},"
        refuse_no_file(given, named)
    elif not isinstance(given, Image.Image | BufferedIOBase | RawIOBase):
        raise TypeError(f"{named}: {_no_pictures(given)}")
    try:
        return upright_rgb(given) if isinstance(given, Image.Image) else open_upright(given)
    except (UnreadableImageError, UnreachableError) as error:
        raise UnreadableImageError(f"{named} cannot be used: {error}.") from error


def refuse_no_file(path: str | os.PathLike, named: str) -> None:
    """Raises ValueError if a path is an address on the network or a folder; the message calls it ``named``."""
    if "://" in str(path):
        raise ValueError(f"{named} is an address on the network; expected the path of a file on this machine.")
    if os.path.isdir(path):
        raise ValueError(f"{named} is a folder; give its files: sorted(pathlib.Path(folder).glob('*.jpg')).")


def _no_pictures(given: Any) -> str:
    refusal = f"prepare takes PIL pictures or paths of files, got {type(given).__name__}"
    if isinstance(given, Tensor):
        return f"{refusal}. What is preprocessed already goes to the model itself: model(images)."
    if isinstance(given, np.ndarray):
        mend = "Make a picture of it: PIL.Image.fromarray(array)."
        return f"{refusal} of {given.dtype} and shape {list(given.shape)}. {mend}"
    if isinstance(given, bytes):
        return f"{refusal}. The bytes of a file become a picture by PIL.Image.open(io.BytesIO(data))."
    if isinstance(given, TextIOBase):
        return f"{refusal}. Open the file in binary: open(path, 'rb')."
    return f"{refusal}. Open a picture by PIL.Image.open(file)."


def _is_upright_rgb(picture: Image.Image) -> bool:
    # Not a file's own class, which reads further frames into itself.
    if type(picture) is not Image.Image or picture.mode != "RGB" or "transparency" in picture.info:
        return False
    return _orientation(picture) not in TURNS


def _orientation(picture: Image.Image) -> Any:
    """As its EXIF says; 1, upright, where that is damaged, as everybody shows such a picture."""
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except Exception as error:  # nearly anything, as from a decoder
        if is_unreachable(error):
            raise
        return 1


@contextmanager
def unreadable_where(damaged: Callable[[Exception], bool] = lambda error: True) -> Iterator[None]:
    """Errors inside become :class:`UnreadableImageError`, or UnreachableError where the place or the machine fails.

    So does a warning of a decompression bomb; other warnings of PIL are not shown, and it starts no program.

    Args:
        damaged: tells errors of reading a picture from others, which pass as they are. Decoders raise nearly
            anything, so that by default every error counts.
    """
    try:
        with quiet_and_alone():
            yield
    except (UnreadableImageError, UnreachableError):
        raise
    except Exception as error:
        if not damaged(error):
            raise
        if is_unreachable(error) or _is_for_want_of_memory(error):
            raise UnreachableError(reason_of(error)) from error
        raise UnreadableImageError(_reason(error)) from error


def _is_for_want_of_memory(error: Exception) -> bool:
    """Whether a decoder had no memory; some say so as well of a damaged file that asks for too much."""
    if "memory" not in str(error):
        return False
    try:
        np.empty(MOST_BYTES // 2, dtype=np.uint8)  # more than a picture takes that is not too large
    except MemoryError:
        return True
    return False


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {_most_pixels():,} pixels"
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of an unknown format"
    reason = reason_of(error)
    if reason.startswith("decoder error"):
        return "its pixels cannot be decoded"
    return "PostScript, which is a program and is not run" if "Ghostscript" in reason else reason


# ---------------------------------------------------------------------- before decoding


@cache
def _formats() -> list[str]:
    """PIL's names of the formats that the suffixes stand for; some of PIL's others start programs."""
    known = Image.registered_extensions()
    return sorted({known[suffix] for suffix in SUFFIXES if suffix in known})


def _check_format(picture: Image.Image) -> None:
    to_be_decoded = isinstance(picture, ImageFile.ImageFile) and (
        bool(picture.tile) or isinstance(picture, ImageFile.StubImageFile)
    )
    if to_be_decoded and picture.format not in (*_formats(), "MPO"):  # several JPEGs in one file
        raise UnreadableImageError(f"{picture.format}, which is not read; formats are {', '.join(_formats())}")


def _check_shape(width: int, height: int) -> None:
    if width * height > _most_pixels():
        raise UnreadableImageError(f"more than {_most_pixels():,} pixels")
    if max(width, height, 1) > GREATEST_ASPECT * min(width, height):
        raise UnreadableImageError(f"{width} x {height} pixels: too narrow, at most {GREATEST_ASPECT} to 1")


def _most_pixels() -> int:
    return Image.MAX_IMAGE_PIXELS or MOST_PIXELS


def _check_scans(opened: Image.Image, file: BytesIO) -> None:
    if opened.info.get("progressive") and (scans := file.getvalue().count(b"\xff\xda")) > MOST_SCANS:
        raise UnreadableImageError(f"a progressive JPEG of {scans:,} scans, at most {MOST_SCANS:,} are read")


def _check_tiles(opened: Image.Image) -> None:
    """A tile is decoded whole, however small the picture is."""
    tags = getattr(opened, "tag_v2", {})
    tile = int(tags.get(TILE_WIDTH, 0)) * int(tags.get(TILE_HEIGHT, 0))
    if tile > max(MOST_TILE_PIXELS, 4 * opened.width * opened.height):
        raise UnreadableImageError(f"a picture of {opened.width} x {opened.height} in tiles of {tile:,} pixels")


# ---------------------------------------------------------------------- conversion


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture.convert("RGB")
    scale = _scale(picture) if _is_deep(picture) else None
    made = Image.new("RGB", picture.size)
    # A large picture's intermediate forms would take many times its own size.
    for box in _strips(picture):
        made.paste(_strip_in_rgb(picture.crop(box), scale), box[:2])
    return made


def _strips(picture: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    rows = max(1, STRIP_PIXELS // max(1, picture.width))
    for top in range(0, picture.height, rows):
        yield 0, top, picture.width, min(top + rows, picture.height)


def _strip_in_rgb(picture: Image.Image, scale: float | None) -> Image.Image:
    if scale is not None:
        grey = (np.asarray(picture) * scale).round().clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if picture.mode == "La":  # PIL converts it to nothing else.
        picture = picture.convert("LA")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return picture.convert("RGB")


def _is_deep(picture: Image.Image) -> bool:
    return picture.mode in ("F", "I") or picture.mode.startswith("I;16")


def _scale(picture: Image.Image) -> float:
    """What makes bytes of grey values: 1 / 257 for 16 bits, 255 for floats from 0 to 1, else 1."""
    if picture.mode not in ("F", "I") or (picture.mode == "I" and picture.format == "PPM"):  # which is of 16 bits
        return 1 / 257
    greatest = 0.0
    for box in _strips(picture):
        values = np.asarray(picture.crop(box))
        if not np.isfinite(values).all():
            raise UnreadableImageError("pixels are NaN or infinite")
        greatest = max(greatest, float(values.max(initial=0)))
    if picture.mode == "F":
        return 255.0 if greatest <= 1 else 1.0
    return 1.0 if greatest <= 255 else 1 / 257
