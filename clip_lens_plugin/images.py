"""A folder of photographs as one tensor and a list of what could not be read; the picture a model sees."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

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
"""Files with other endings are passed over in silence."""

GREATEST_ASPECT = 100
"""Longer side over shorter; beyond it, scaling the shorter side to the input size would fill the memory."""


class ImageFolderError(ValueError):
    """The folder is missing, is no folder, holds no image file, or none that can be read."""


class UnreadableImageError(ValueError):
    """One file is no picture that can be used; the message is the reason."""


@dataclass(frozen=True)
class Skipped:
    """A file that was not used: its path inside the folder and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class LoadedImages:
    """Preprocessed images; ``names[i]`` is the path of ``tensor[i]`` inside the folder."""

    tensor: Float[Tensor, "b 3 height width"]
    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    def folder_labels(self) -> tuple[str, ...] | None:
        """Name of the folder each image lies in, where all lie in two or more subfolders; else None."""
        parents = [name.rpartition("/")[0] for name in self.names]
        labels = tuple(parent.rpartition("/")[2] for parent in parents)
        return labels if all(parents) and len(set(labels)) >= 2 else None


def find_images(folder: str | Path, limit: int | None = None) -> list[Path]:
    """Image files in the folder and its subfolders, sorted by path; links that lead out of it are left out.

    Args:
        folder: where to look.
        limit: keep at most so many, evenly spaced over the sorted list.

    Raises:
        ImageFolderError: if there is no such folder, it is a file, or it holds no image file.
    """
    root = Path(folder)
    if not root.exists():
        raise ImageFolderError(f"There is no folder {folder}.")
    if not root.is_dir():
        raise ImageFolderError(f"{folder} is a file, expected a folder of images.")
    inside = root.resolve()
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(root)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    ]
    found = [path for path in found if path.is_file() and path.resolve().is_relative_to(inside)]
    if not found:
        raise ImageFolderError(f"{folder} holds no image files; looked for {' '.join(SUFFIXES)}.")
    found.sort(key=lambda path: path.relative_to(root).as_posix())
    if limit is not None and limit < len(found):
        found = [found[i * len(found) // limit] for i in range(limit)]
    return found


def load_images(
    folder: str | Path,
    paths: Sequence[Path],
    preprocess: Callable[..., Any] | None,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> LoadedImages:
    """Opens, turns upright and preprocesses every file; one that cannot be read goes on the list of skipped.

    Args:
        folder: names are given relative to it.
        paths: files in it, as :func:`find_images` returns them.
        preprocess: PIL picture to [3, height, width], as ``model.preprocess``.
        on_progress: called with (done, total) after each file.

    Raises:
        ImageFolderError: if no file can be read.
        ValueError: if there is no preprocessing.
    """
    if preprocess is None:
        raise ValueError("The model was wrapped without preprocessing, so it cannot take photographs.")
    tensors, names, skipped = [], [], []
    for done, path in enumerate(paths, start=1):
        # A name may hold bytes that are no UTF-8, which could not be printed or written to a table.
        name = os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "replace")
        try:
            tensors.append(preprocess(open_upright(path)))
            names.append(name)
        except UnreadableImageError as error:
            skipped.append(Skipped(name, str(error)))
        on_progress(done, len(paths))
    if not tensors:
        first = f"; the first, {skipped[0].name!r}: {skipped[0].reason}" if skipped else ""
        raise ImageFolderError(f"None of the {len(paths)} image files in {folder} could be read{first}.")
    return LoadedImages(torch.stack(tensors), tuple(names), tuple(skipped))


def open_upright(path: str | Path) -> Image.Image:
    """The picture in RGB, turned as its EXIF orientation says; of an animation the first frame.

    Transparent pixels become white. Values of 16 bits are reduced to 8.

    Raises:
        UnreadableImageError: if it is no picture, is cut off, or is too large to open safely.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                _check_shape(*opened.size)
                opened.load()
                return _rgb(ImageOps.exif_transpose(opened))
    except UnreadableImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image, or of an unknown format") from error
    except Exception as error:  # decoders of damaged files raise nearly anything
        told = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(told.splitlines()[0]) from error


def shown_pictures(
    images: Float[Tensor, "b 3 height width"], preprocess: Callable[..., Any] | None
) -> list[Image.Image]:
    """The pictures as the model sees them, cropped and scaled: ``preprocess`` with its Normalize undone.

    Raises:
        ValueError: if ``preprocess`` has no Normalize step.
    """
    steps = getattr(preprocess, "transforms", [preprocess])
    normalize = [step for step in steps if hasattr(step, "mean") and hasattr(step, "std")]
    if not normalize:
        raise ValueError(
            "preprocess has no Normalize step with mean and std, so what the model sees cannot be restored."
        )
    mean, std = (torch.as_tensor(values).float() for values in (normalize[-1].mean, normalize[-1].std))
    pixels = images.detach().float().cpu() * std.reshape(-1, 1, 1) + mean.reshape(-1, 1, 1)
    rounded = (pixels * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return [Image.fromarray(picture.numpy()) for picture in rounded]


def _check_shape(width: int, height: int) -> None:
    if max(width, height) > GREATEST_ASPECT * min(width, height):
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
