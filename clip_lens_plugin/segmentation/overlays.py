"""Maps of a few images, kept to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from clip_lens_plugin.datasets.image_folder import evenly_spaced
from clip_lens_plugin.images.preprocessed import shown_pictures
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.segmentation.kinds import Kind
from clip_lens_plugin.segmentation.masked.dataset import SegmentationDataset
from clip_lens_plugin.segmentation.plane import Plane, Planes
from clip_lens_plugin.segmentation.running import maps_of, pixels_of
from clip_lens_plugin.segmentation.text_targets import TextTargets

LONGER_SIDE = 640
"""Pixels of a picture that is kept."""


@dataclass(frozen=True)
class Overlay:
    """One image, small, with its mask and maps.

    Attributes:
        image: its position in the data set.
        name, text: of the image.
        picture: as it is scored: the photograph, or a squashed one.
        mask: of the picture's size.
        box: left, top, width and height of all patches together, as parts of the picture.
        maps: by kind, [rows, columns]: how far a patch lies above (to 1) or below (to −1) the mean of the whole map,
            over which it counts as object.
    """

    image: int
    name: str
    text: str
    picture: Image.Image
    mask: Bool[np.ndarray, "height width"]
    box: tuple[float, float, float, float]
    maps: Mapping[str, Float[np.ndarray, "rows columns"]]


def overlays_of(
    model: HookedCLIP,
    kinds: Sequence[Kind],
    dataset: SegmentationDataset,
    planes: Planes,
    targets: TextTargets,
    n: int,
    batch_size: int,
) -> tuple[Overlay, ...]:
    """Overlays of at most ``n`` images, evenly spaced over the data set."""
    found: list[Overlay] = []
    chosen = evenly_spaced(range(len(dataset)), n) if n else []
    for start in range(0, len(chosen), batch_size):
        positions = chosen[start : start + batch_size]
        images = [dataset[i] for i in positions]
        own = [planes.plane(image) for image in images]
        pixels, texts = pixels_of(model, own), [image.text for image in images]
        maps = {kind.label: maps_of(model, kind, pixels, texts, targets).values for kind in kinds}
        for i, (position, image, plane) in enumerate(zip(positions, images, own, strict=True)):
            of_image = {label: _about_mean(values[i], plane) for label, values in maps.items()}
            picture, mask = _small(_scored_picture(plane, pixels[i : i + 1], model), plane.mask)
            box = _box(plane, model.cfg.grid_size)
            found.append(Overlay(position, image.name, image.text, picture, mask, box, of_image))
    return tuple(found)


def _about_mean(values: Float[Tensor, "rows columns"], plane: Plane) -> Float[np.ndarray, "rows columns"]:
    """The map as it is scored, less the mean over its pixels, its greatest distance to it 1."""
    pixels = plane.placement.to_photo(values, "bilinear")
    seen, found = pixels[~np.isnan(pixels)], values.numpy()
    if plane.positive_part:
        seen, found = seen.clip(min=0), found.clip(min=0)
    away = found - (seen.mean() if seen.size else found.mean())
    return away / (np.abs(away).max() or 1.0)


def _scored_picture(plane: Plane, pixels: Float[Tensor, "1 3 height width"], model: HookedCLIP) -> Image.Image:
    """The picture that maps and mask are laid on; where only the mask was squashed, what the model sees."""
    height, width = plane.mask.shape
    if plane.picture.size == (width, height):
        return plane.picture
    try:
        return shown_pictures(pixels, model.preprocess)[0]
    except ValueError:  # What the preprocessing does to colours is not known, and scores are not to be lost for it.
        return Image.new("RGB", (width, height), "grey")


def _small(
    picture: Image.Image, mask: Bool[np.ndarray, "height width"]
) -> tuple[Image.Image, Bool[np.ndarray, "down across"]]:
    made = picture.copy()
    made.thumbnail((LONGER_SIDE, LONGER_SIDE))
    covered = Image.fromarray(mask.astype(np.uint8)).resize(made.size, Image.Resampling.NEAREST)
    return made, np.asarray(covered).astype(bool)


def _box(plane: Plane, grid_size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = plane.placement.photo_size
    boxes = plane.placement.patch_boxes(grid_size)
    (left, top), (right, bottom) = boxes[0, 0, :2].tolist(), boxes[-1, -1, 2:].tolist()
    return left / width, top / height, (right - left) / width, (bottom - top) / height
