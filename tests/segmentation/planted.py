"""Data sets and methods whose scores are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from clip_lens_plugin.saliency.methods import SaliencyMethod
from clip_lens_plugin.segmentation.masked.dataset import MaskedImage


@dataclass(frozen=True)
class Planted:
    """Images in a list."""

    images: Sequence[MaskedImage]
    title: str = "planted images"

    @property
    def texts(self) -> Sequence[str]:
        return list(dict.fromkeys(image.text for image in self.images))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int, /) -> MaskedImage:
        return self.images[position]


def masked(
    name: str, text: str, box: tuple[int, int, int, int], size: tuple[int, int] = (56, 56), **more
) -> MaskedImage:
    """A grey picture with a white box, left, top, right, bottom, which is its mask."""
    mask = np.zeros(size[::-1], dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    pixels = np.where(mask[..., None], 255, 90).astype(np.uint8).repeat(3, -1)
    return MaskedImage(name, Image.fromarray(pixels), text, mask, **more)


def _patch_means(model, images):
    rows, columns = model.cfg.grid_size
    return images.mean(1).unflatten(1, (rows, -1)).unflatten(3, (columns, -1)).mean((2, 4)).float()


def bright(takes_text: bool = False) -> SaliencyMethod:
    """The mean brightness of each patch."""
    return SaliencyMethod("bright", takes_text, lambda model, images, texts, against: _patch_means(model, images))


def seen_by(calls: list, takes_text: bool = True) -> SaliencyMethod:
    """The same, and a list of what it was called with."""

    def maps(model, images, texts, against):
        calls.append((len(images), texts, against))
        return _patch_means(model, images)

    return SaliencyMethod("seen", takes_text, maps, "Seen & noted")


def broken(value: float) -> SaliencyMethod:
    """A map with such a value in its corner."""

    def maps(model, images, texts, against):
        found = _patch_means(model, images)
        found[:, 0, 0] = value
        return found

    return SaliencyMethod("broken", False, maps)


def misshapen() -> SaliencyMethod:
    """A value for each image in the place of one for each patch."""
    return SaliencyMethod("misshapen", False, lambda model, images, texts, against: torch.ones(len(images)))
