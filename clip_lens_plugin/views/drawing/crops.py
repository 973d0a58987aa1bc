"""Which part of a photograph the model sees, for what is laid over it."""

from __future__ import annotations

from typing import get_args

from PIL import Image

from clip_lens_plugin.arguments import checked_choice
from clip_lens_plugin.maps.crop_geometry import Interpolation, Placement

Box = tuple[float, float, float, float]
"""Left, top, width and height as parts of a photograph."""


def crop_box(
    picture: Image.Image, placement: Placement | None, grid_size: tuple[int, int], interpolation: Interpolation
) -> Box:
    """Left, top, width and height of all patches together as parts of the photograph."""
    checked_choice("interpolation", interpolation, get_args(Interpolation))
    if placement is None:
        return 0.0, 0.0, 1.0, 1.0
    width, height = placement.photo_size
    if picture.size != (width, height):
        raise ValueError(
            f"The placement is of a photograph of {width} x {height} pixels, the picture has "
            f"{picture.size[0]} x {picture.size[1]}. Give the photograph that was preprocessed."
        )
    boxes = placement.patch_boxes(grid_size)
    (left, top), (right, bottom) = boxes[0, 0, :2].tolist(), boxes[-1, -1, 2:].tolist()
    return left / width, top / height, (right - left) / width, (bottom - top) / height


def hides_something(box: Box) -> bool:
    """Whether a part of the photograph lies outside."""
    left, top, width, height = box
    return left > 1e-9 or top > 1e-9 or left + width < 1 - 1e-9 or top + height < 1 - 1e-9
