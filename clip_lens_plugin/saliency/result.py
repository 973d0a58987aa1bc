"""Saliency maps of one image: on the patches, on what the model sees, and on the photograph."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from clip_lens_plugin.maps.crop_geometry import Interpolation, Placement
from clip_lens_plugin.maps.pictured import Pictured
from clip_lens_plugin.shown import Shown


@dataclass(frozen=True)
class SaliencyMap(Shown):
    """Where in an image a method sees each of t texts; one map, and no text, where the method looks at none.

    In a notebook it draws itself on the picture that it was made of; ``map.save("map.pdf")`` writes that. Values of one
    method are comparable with each other, not with another method's.

    Attributes:
        values: one for each patch, greater where the method sees the text [t, rows, columns]; float32 or better.
        texts: the texts; none where the method does not look at them.
        method: the name of the method.
        title: what the method is called.
        input_size: (width, height) of what the model sees, in pixels.
        against: the texts that each is contrasted with; none if it is not.
        pictured: the picture, and where the model's input lies on it; None if nothing is known of it.
    """

    values: Float[Tensor, "t rows columns"]
    texts: tuple[str, ...]
    method: str
    title: str
    input_size: tuple[int, int]
    against: tuple[str, ...] = ()
    pictured: Pictured | None = field(default=None, compare=False)

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.values.shape[1:]
        return rows, columns

    @property
    def name(self) -> str:
        """The image's name: its file's, or "image 0"."""
        return (self.pictured or Pictured()).name(0)

    @property
    def captions(self) -> tuple[str, ...]:
        """What each map is of."""
        return self.texts or ("whatever the text",)

    def on_input(self, interpolation: Interpolation = "bilinear") -> Float[np.ndarray, "t height width"]:
        """One value for each pixel of what the model sees; NaN right and below of all patches, where some are left.

        Args:
            interpolation: "bilinear", or "nearest" for the patch's own value.

        Raises:
            ValueError: if there is no such interpolation.
        """
        return self._placed_by(Placement(self.input_size, self.input_size, 1.0, 1.0, 0.0, 0.0), interpolation)

    def on_photograph(
        self, interpolation: Interpolation = "bilinear", picture: Image.Image | None = None
    ) -> Float[np.ndarray, "t height width"]:
        """One value for each pixel of the photograph; NaN where the model does not see it.

        Args:
            interpolation: as :meth:`on_input`.
            picture: the photograph; the one that the map was made of if not given.

        Raises:
            ValueError: if no picture is known and none was given, nobody knows where the model's input lies on it, or
                there is no such interpolation.
        """
        placement = (self.pictured or Pictured()).placed(self.grid_size, picture)[1]
        return self.on_input(interpolation) if placement is None else self._placed_by(placement, interpolation)

    def _placed_by(self, placement: Placement, interpolation: Interpolation) -> Float[np.ndarray, "t height width"]:
        return np.stack([placement.to_photo(each, interpolation) for each in self.values])

    def to_dataframe(self) -> pd.DataFrame:
        """One row per text and patch: text (empty where there is none), row, column, value."""
        found = [
            (text, row, column, value)
            for text, each in zip(self.texts or ("",), self.values.tolist(), strict=True)
            for row, values in enumerate(each)
            for column, value in enumerate(values)
        ]
        return pd.DataFrame(found, columns=["text", "row", "column", "value"])

    def __repr__(self) -> str:
        rows, columns = self.grid_size
        of_texts = f"texts={list(self.texts)}" if self.texts else "whatever the text"
        against = f", against={list(self.against)}" if self.against else ""
        return (
            f"SaliencyMap({self.title}, {of_texts}{against}, patches={rows} x {columns}, values from "
            f"{float(self.values.min()):+.4g} to {float(self.values.max()):+.4g})"
        )
