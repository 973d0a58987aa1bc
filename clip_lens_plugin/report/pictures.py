"""Where a report gets the pictures of its rows: from pixels in memory, or from a data set that is read again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.images.photographs import Photographs
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.images.preprocessed import shown_pictures
from clip_lens_plugin.model.hooked_clip import HookedCLIP


class Pictures(ABC):
    """The pictures of some rows."""

    @abstractmethod
    def __contains__(self, row: object) -> bool:
        """Whether there is a picture of the row."""

    @abstractmethod
    def pixels(self, row: int) -> Float[Tensor, "3 height width"]:
        """What the model takes.

        Raises:
            ValueError, OSError: if it cannot be read.
        """

    @abstractmethod
    def photograph(self, row: int) -> Image.Image | None:
        """The picture that was preprocessed; None where only pixels are there. Raises as :meth:`pixels`."""

    def shown(self, rows: list[int], preprocess: Callable[..., Any] | None) -> dict[int, Image.Image]:
        """What the model sees of each row that there is a picture of; of others nothing."""
        found = {}
        for row in rows:
            if row in self:
                found[row] = shown_pictures(self.pixels(row)[None], preprocess)[0]
        return found


class PixelsInMemory(Pictures):
    """Preprocessed images, and perhaps the photographs that they were made of."""

    def __init__(
        self, images: Float[Tensor, "b 3 height width"], photograph: Callable[[int], Image.Image] | None
    ) -> None:
        self._images, self._photograph = images, photograph

    def __contains__(self, row: object) -> bool:
        return row in range(len(self._images))

    def pixels(self, row: int) -> Float[Tensor, "3 height width"]:
        return self._images[row]

    def photograph(self, row: int) -> Image.Image | None:
        return None if self._photograph is None else upright_rgb(self._photograph(row))


class PicturesOfSource(Pictures):
    """Samples of a data set, read when they are asked for.

    Args:
        model: whose preprocessing makes pixels of a picture.
        source: the data set.
        positions: row to position in it, of the rows that it has.
    """

    def __init__(self, model: HookedCLIP, source: ImageSource, positions: Mapping[int, int]) -> None:
        self._model, self._source, self._positions = model, source, positions

    def among(self, rows: Mapping[int, int]) -> PicturesOfSource:
        """The same pictures under other numbers, each with its row here; those without a picture are left out."""
        known = {number: self._positions[row] for number, row in rows.items() if row in self._positions}
        return PicturesOfSource(self._model, self._source, known)

    def __contains__(self, row: object) -> bool:
        return row in self._positions

    def pixels(self, row: int) -> Float[Tensor, "3 height width"]:
        image = self._source.read(self._positions[row]).image
        return image if isinstance(image, Tensor) else self._model.prepare([image])[0]

    def photograph(self, row: int) -> Image.Image | None:
        image = self._source.read(self._positions[row]).image
        return None if isinstance(image, Tensor) else upright_rgb(image)


class PicturesGiven(Pictures):
    """Pictures that a user gave to the model."""

    def __init__(self, model: HookedCLIP, photographs: Photographs) -> None:
        self._model, self._photographs = model, photographs

    def __contains__(self, row: object) -> bool:
        return row in range(len(self._photographs))

    def pixels(self, row: int) -> Float[Tensor, "3 height width"]:
        return self._model.prepare([self._photographs[row].source])[0]

    def photograph(self, row: int) -> Image.Image:
        return self._photographs[row].open()


def other_rows(
    model: HookedCLIP, pixels: Mapping[int, Tensor], embeddings: Mapping[int, Float[Tensor, " e"]], tolerance: float
) -> list[int]:
    """Rows whose picture gives the model another embedding than was collected, relative to its length."""
    if not pixels:
        return []
    with torch.no_grad():
        found = model(torch.stack([each.to(model.cfg.device) for each in pixels.values()]).to(model.cfg.dtype)).float()
    kept = torch.stack([embeddings[row] for row in pixels]).to(found)
    away = (found - kept).norm(dim=-1) / kept.norm(dim=-1)
    return [row for row, each in zip(pixels, away.tolist(), strict=True) if not each <= tolerance]
