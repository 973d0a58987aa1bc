"""Where a model's input lies on the photograph that was preprocessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from open_clip.transform import CenterCropOrPad, MaybeConvertMode, MaybeToTensor, ResizeKeepRatio
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from clip_lens_plugin.arguments import checked_choice, checked_pair
from clip_lens_plugin.dependencies.of_open_clip import converts_to_rgb

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

Interpolation = Literal["nearest", "bilinear"]
"""How one value per patch becomes one value per pixel."""

KEEP_GEOMETRY = (ToTensor, MaybeToTensor, Normalize, MaybeConvertMode)


class UnknownGeometryError(ValueError):
    """A step of the preprocessing moves pixels in a way that is not known."""


@dataclass(frozen=True)
class Placement:
    """The map from photograph to input: u = scale_x x + offset_x, v = scale_y y + offset_y.

    Coordinates are in pixels, of edges: a picture w pixels wide reaches from 0 to w, and its first pixel has its centre
    at 0.5.

    Attributes:
        photo_size: (width, height) of the photograph, upright.
        input_size: (width, height) of the model's input.
        scale_x, scale_y: input pixels per pixel of the photograph.
        offset_x, offset_y: where the photograph's upper left corner lies on the input.
    """

    photo_size: tuple[int, int]
    input_size: tuple[int, int]
    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float

    @classmethod
    def of(
        cls, preprocess: Callable[..., Any] | None, photo_size: tuple[int, int], input_size: tuple[int, int]
    ) -> Placement:
        """Follows a preprocessing as ``open_clip.image_transform`` makes it for evaluation, step by step.

        Args:
            preprocess: of the model.
            photo_size: (width, height) of the picture that it was given, as ``picture.size``.
            input_size: (width, height) of what it makes.

        Raises:
            UnknownGeometryError: if there is no preprocessing, or a step of it is random or of no known kind.
            ValueError: if a size is not positive, nothing of the photograph is left, or the preprocessing makes another
                input size.
        """
        photo_size, input_size = checked_pair("photo_size", photo_size), checked_pair("input_size", input_size)
        size, scale, offset = photo_size, [1.0, 1.0], [0.0, 0.0]
        for step in _steps(preprocess):
            resized, canvas = _sizes(step, *size)
            if min(resized) < 1:
                raise ValueError(f"A photograph of {photo_size} is too narrow: {step} leaves nothing of it.")
            for axis in (0, 1):
                factor = resized[axis] / size[axis]
                scale[axis] *= factor
                offset[axis] = offset[axis] * factor + _shift(resized[axis], canvas[axis])
            size = canvas
        if size != input_size:
            raise ValueError(
                f"The preprocessing makes of a photograph of {photo_size} an input of {size} (width, height), expected "
                f"{input_size}. Give the preprocessing and the input size of one model."
            )
        return cls(photo_size, input_size, *scale, *offset)

    @property
    def box(self) -> Box:
        """The input in photograph pixels; it exceeds the photograph where that was padded."""
        (width, height), x, y = self.input_size, self.offset_x, self.offset_y
        return -x / self.scale_x, -y / self.scale_y, (width - x) / self.scale_x, (height - y) / self.scale_y

    @property
    def visible(self) -> Box:
        """The part of the photograph that is on the input, in photograph pixels."""
        (left, top, right, bottom), (width, height) = self.box, self.photo_size
        return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))

    def patch_boxes(self, grid_size: tuple[int, int]) -> Float[np.ndarray, "rows columns 4"]:
        """Left, top, right, bottom of each patch in photograph pixels; they exceed it where it was padded.

        Patches are whole pixels from the upper left corner: what is left over, right and below, is in none.

        Args:
            grid_size: (rows, columns), as ``model.cfg.grid_size``.

        Raises:
            ValueError: if it is not positive, or there are more patches than pixels.
        """
        (rows, columns), (width, height) = grid_size, self._patch_size(grid_size)
        xs = (np.arange(columns + 1) * width - self.offset_x) / self.scale_x
        ys = (np.arange(rows + 1) * height - self.offset_y) / self.scale_y
        left, top = np.meshgrid(xs[:-1], ys[:-1])
        right, bottom = np.meshgrid(xs[1:], ys[1:])
        return np.stack([left, top, right, bottom], axis=-1)

    def to_photo(
        self, values: Float[Tensor, "rows columns"], interpolation: Interpolation
    ) -> Float[np.ndarray, "height width"]:
        """One value per pixel of the photograph, for display; NaN where the model sees nothing.

        Args:
            values: of the patches.
            interpolation: "nearest" gives a pixel the value of the patch that its centre lies in; "bilinear" goes
                evenly from one patch's centre to the next, and stays constant beyond the outermost.

        Raises:
            ValueError: if there is no such interpolation, no patch, or there are more patches than pixels.
        """
        checked_choice("interpolation", interpolation, get_args(Interpolation))
        (rows, columns), (photo_width, photo_height) = values.shape, self.photo_size
        width, height = self._patch_size((rows, columns))
        x = (self.scale_x * (np.arange(photo_width) + 0.5) + self.offset_x) / width
        y = (self.scale_y * (np.arange(photo_height) + 0.5) + self.offset_y) / height
        by_patch = values.detach().to("cpu", torch.float64).numpy()
        left, right, part_right, seen_x = _neighbours(x, columns, interpolation)
        above, below, part_below, seen_y = _neighbours(y, rows, interpolation)
        by_row = by_patch[above] * (1 - part_below)[:, None] + by_patch[below] * part_below[:, None]
        found = by_row[:, left] * (1 - part_right) + by_row[:, right] * part_right
        found[~seen_y] = np.nan
        found[:, ~seen_x] = np.nan
        return found

    def _patch_size(self, grid_size: tuple[int, int]) -> tuple[int, int]:
        rows, columns = checked_pair("grid_size, as model.cfg.grid_size,", grid_size)
        width, height = self.input_size
        if not (rows <= height and columns <= width):
            raise ValueError(
                f"An input of {width} x {height} pixels has no grid of {rows} rows and {columns} columns. Give the "
                f"model's own: model.cfg.grid_size."
            )
        return width // columns, height // rows


@dataclass(frozen=True)
class Geometry:
    """Where a preprocessing puts any photograph.

    Attributes:
        steps: of the preprocessing, those that move pixels.
        input_size: (width, height) of what it makes.
    """

    steps: tuple[Any, ...]
    input_size: tuple[int, int]

    @classmethod
    def of(cls, preprocess: Callable[..., Any] | None, input_size: tuple[int, int]) -> Geometry | None:
        """The geometry of a preprocessing; None where a step of it is not known, or it makes another input size."""
        made = cls(tuple(_steps(preprocess)), input_size)
        try:
            made.placement(input_size)
        except ValueError:
            return None
        return made

    def placement(self, photo_size: tuple[int, int]) -> Placement:
        """Where the input lies on a photograph of this (width, height).

        Raises:
            ValueError: see :meth:`Placement.of`.
        """
        return Placement.of(Compose(list(self.steps)), photo_size, self.input_size)


def _steps(preprocess: Any) -> Iterator[Any]:
    if type(preprocess) is Compose:
        for step in preprocess.transforms:
            yield from _steps(step)
    elif type(preprocess) not in KEEP_GEOMETRY and not converts_to_rgb(preprocess):
        yield preprocess


def _sizes(step: Any, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(width, height) after the step's scaling, and after its cropping and padding."""
    if type(step) is Resize and step.max_size is None:
        *down, across = (step.size,) if isinstance(step.size, int) else tuple(step.size)
        if down:
            resized = (across, down[0])
        else:
            # Rounds as torchvision does: the shorter side is exact, the longer one is cut off.
            longer = int(across * max(width, height) / min(width, height))
            resized = (across, longer) if width <= height else (longer, across)
        return resized, resized
    if type(step) is ResizeKeepRatio and not (step.random_scale_prob or step.random_aspect_prob):
        down, across = step.get_params(SimpleNamespace(size=(width, height)), step.size, step.longest)
        return (across, down), (across, down)
    if type(step) in (CenterCrop, CenterCropOrPad):
        canvas: Any = step.size
        return (width, height), (canvas[1], canvas[0])
    name = getattr(step, "__name__", type(step).__name__)
    raise UnknownGeometryError(
        f"Where the input lies on the photograph is not known: the preprocessing has the step {name} ({step!r}). Known "
        f"are Resize without max_size, CenterCrop, and open_clip's ResizeKeepRatio without randomness and "
        f"CenterCropOrPad. Use a preprocessing of those, or draw on what the model sees, without a placement."
    )


def _shift(before: int, after: int) -> int:
    """What centred cropping or padding adds to a coordinate; both round as torchvision and open_clip do."""
    return (after - before) // 2 if after > before else -round((before - after) / 2)


def _neighbours(
    position: Float[np.ndarray, " pixels"], n: int, interpolation: str
) -> tuple[
    Int[np.ndarray, " pixels"], Int[np.ndarray, " pixels"], Float[np.ndarray, " pixels"], Bool[np.ndarray, " pixels"]
]:
    """For positions in patches along an axis: the patches before and after, the part of the second, whether inside."""
    inside = (position >= 0) & (position < n)
    if interpolation == "nearest":
        before = np.floor(position).clip(0, n - 1).astype(int)
        return before, before, np.zeros(len(position)), inside
    from_centre = (position - 0.5).clip(0, n - 1)
    before = np.floor(from_centre).astype(int)
    return before, np.minimum(before + 1, n - 1), from_centre - before, inside
