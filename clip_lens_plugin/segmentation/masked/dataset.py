"""Images with the mask of what a text names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool
from PIL import Image

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.datasets.image_folder import evenly_spaced


@dataclass(frozen=True)
class MaskedImage:
    """One image, a text, and where on it that is.

    Attributes:
        name: of the image, and of the text where one image has several.
        picture: upright, in RGB.
        text: what is looked for.
        mask: True where that is, of the picture's size.
        void: True where nobody says what is there; these pixels are left out.
        other: a second object, which the text does not name.
        group: what images have in common that are not independent, such as the photograph; the name if empty.
    """

    name: str
    picture: Image.Image
    text: str
    mask: Bool[np.ndarray, "height width"]
    void: Bool[np.ndarray, "height width"] | None = None
    other: Bool[np.ndarray, "height width"] | None = None
    group: str = ""

    def __post_init__(self) -> None:
        width, height = self.picture.size
        for what in ("mask", "void", "other"):
            given = getattr(self, what)
            if given is not None and given.shape != (height, width):
                raise ValueError(
                    f"The {what} of {self.name} has {given.shape[1]} x {given.shape[0]} pixels, its picture "
                    f"{width} x {height}: expected the same size."
                )


@runtime_checkable
class SegmentationDataset(Protocol):
    """What is scored: images with masks, opened one at a time when they are asked for."""

    @property
    def title(self) -> str:
        """What it is, in a line."""
        ...

    @property
    def texts(self) -> Sequence[str]:
        """Every text that an image may have, each once: the classes, which others are contrasted with."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> MaskedImage: ...


@dataclass(frozen=True)
class PartOfMasked:
    """At most ``limit`` images of a data set, evenly spaced; its texts stay.

    Raises:
        ValueError: if ``limit`` is no whole number of at least 1.
    """

    whole: SegmentationDataset
    limit: int

    def __post_init__(self) -> None:
        checked_number("limit", self.limit)

    @property
    def title(self) -> str:
        """The whole's title, and how many of its images these are."""
        return f"{self.whole.title}, {len(self)} of {len(self.whole):,}"

    @property
    def texts(self) -> Sequence[str]:
        """The texts of the whole."""
        return self.whole.texts

    def __len__(self) -> int:
        return min(self.limit, len(self.whole))

    def __getitem__(self, position: int, /) -> MaskedImage:
        return self.whole[evenly_spaced(range(len(self.whole)), self.limit)[position]]
