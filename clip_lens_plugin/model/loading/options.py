"""What may be said about a model besides its name: open_clip's own keywords, checked before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from clip_lens_plugin.arguments import checked_choice, checked_number
from clip_lens_plugin.hints import given_as
from clip_lens_plugin.model.loading.errors import ModelNotFoundError

INTERPOLATIONS = ("bicubic", "bilinear")
RESIZE_MODES = ("shortest", "longest", "squash")
LARGEST = 2.0
"""The largest mean or deviation of pixels between 0 and 1; those of pixels from 0 to 255 are far above it."""

Tokenizer = Callable[[list[str]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Said:
    """What may be said of how a model is built and what prepares its pictures; None where nothing was said.

    Attributes:
        force_quick_gelu: as in open_clip, True for QuickGELU; False for what the name or the tag says.
        force_image_size: (height, width) in pixels.
        image_mean, image_std: of the three channels of pixels between 0 and 1.
        image_interpolation: one of :data:`INTERPOLATIONS`.
        image_resize_mode: one of :data:`RESIZE_MODES`.
    """

    force_quick_gelu: bool | None = None
    force_image_size: tuple[int, int] | None = None
    image_mean: tuple[float, float, float] | None = None
    image_std: tuple[float, float, float] | None = None
    image_interpolation: str | None = None
    image_resize_mode: str | None = None


@dataclass(frozen=True, kw_only=True)
class Options(Said):
    """Keywords of ``HookedCLIP.from_pretrained``, checked.

    Attributes:
        checkpoint: file with the weights.
        tokenizer: texts to token ids, or the folder of a Hugging Face tokenizer.
    """

    checkpoint: Path | None = None
    tokenizer: Tokenizer | Path | None = None

    @classmethod
    def checked(cls, **given: Any) -> Options:
        """The options, each with a value that it can have.

        Raises:
            ValueError: if one has not; the message begins with its name.
            ModelNotFoundError: if there is no such checkpoint or folder of a tokenizer.
        """
        checks: dict[str, Callable[[str, Any], Any]] = {
            "checkpoint": _file,
            "force_quick_gelu": _truth,
            "force_image_size": _size,
            "image_mean": checked_channels,
            "image_std": checked_channels,
            "image_interpolation": lambda name, value: checked_choice(name, value, INTERPOLATIONS),
            "image_resize_mode": lambda name, value: checked_choice(name, value, RESIZE_MODES),
            "tokenizer": _tokenizer,
        }
        return cls(**{name: checks[name](given_as(name), value) for name, value in given.items() if value is not None})

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What was said about the preprocessing, under open_clip's names of its steps."""
        said = {
            "mean": self.image_mean,
            "std": self.image_std,
            "interpolation": self.image_interpolation,
            "resize_mode": self.image_resize_mode,
        }
        return {name: value for name, value in said.items() if value is not None}


def _file(name: str, given: Any) -> Path:
    if not isinstance(given, (str, Path)):
        raise ValueError(f"{name} must be the path of a file with weights, got {type(given).__name__}.")
    path = Path(given).expanduser()
    if not path.exists():
        raise ModelNotFoundError(f"{name}: there is no such file {given}.")
    return path


def _truth(name: str, given: Any) -> bool:
    if not isinstance(given, bool):
        raise ValueError(f"{name} must be True or False, got {given!r}.")
    return given


def _size(name: str, given: Any) -> tuple[int, int]:
    sizes = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given, given]
    if len(sizes) == 1:
        sizes *= 2
    if len(sizes) != 2:
        raise ValueError(f"{name} must be one number of pixels or (height, width), got {given!r}.")
    height, width = (checked_number(name, size) for size in sizes)
    return height, width


def checked_channels(name: str, given: Any) -> tuple[float, float, float]:
    """A mean or deviation of red, green and blue, of one number or three.

    Raises:
        ValueError: if it is neither, or not of pixels between 0 and 1.
    """
    given = given.tolist() if hasattr(given, "tolist") else given  # numpy's and torch's numbers
    one = isinstance(given, Real) and not isinstance(given, bool)
    values: list[Any] = [given] * 3 if one else []
    if isinstance(given, Sequence) and not isinstance(given, str):
        values = list(given)
    if len(values) != 3 or not all(isinstance(each, Real) and math.isfinite(each) for each in values):
        raise ValueError(f"{name} must be one number or three, of red, green and blue; got {given!r}.")
    if any(abs(each) > LARGEST for each in values):
        raise ValueError(f"{name} is of pixels between 0 and 1, got {given!r}. Divide it by 255.")
    if "std" in name and not all(each > 0 for each in values):
        raise ValueError(f"{name} must be above 0, got {given!r}.")
    red, green, blue = map(float, values)
    return red, green, blue


def _tokenizer(name: str, given: Any) -> Tokenizer | Path:
    if isinstance(given, (str, Path)):
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise ModelNotFoundError(f"{name}: there is no folder {given}. Give that of a Hugging Face tokenizer.")
        return folder
    if not callable(given):
        raise ValueError(
            f"{name} must be a function from a list of texts to token ids, or the folder of a Hugging Face tokenizer, "
            f"got {type(given).__name__}."
        )
    return cast(Tokenizer, given)
