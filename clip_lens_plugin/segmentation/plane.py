"""Where a map is scored: on the photograph itself, or as published code does it, on a square.

- "original": the picture is prepared as the model was trained; its map goes back to the photograph through the
  preprocessing's own geometry, and is scored on the original mask. What was cropped away was not seen, and is left out.
- "paper": as the code of Gandelsman et al. (2024) does it. The picture is prepared by the model's preprocessing (for
  OpenCLIP bicubic to the shorter side, the centre cut out); the whole mask is squashed to the input's size by the
  nearest pixel, so that of a photograph that is not square it lies elsewhere than the picture. Negative values of a map
  count as 0.
- "squash": as the code of Chefer et al. (2021) does it. Picture (bilinear) and mask (nearest) are both squashed to the
  input's size.

Everywhere one value per patch becomes one per pixel bilinearly, constant beyond the centres of the outermost patches,
as ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from clip_lens_plugin.arguments import checked_choice
from clip_lens_plugin.maps.crop_geometry import Geometry, Placement
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.segmentation.masked.dataset import MaskedImage
from clip_lens_plugin.segmentation.scores import ImageScores, image_scores

Mode = Literal["original", "paper", "squash"]
"""Where maps are scored, see the head of this file."""


@dataclass(frozen=True)
class Plane:
    """One image as it is scored.

    Attributes:
        picture: what is prepared for the model.
        mask, void, other: where the map is scored, of one size.
        placement: of the model's input on that.
        positive_part: whether negative values of the map count as 0.
    """

    picture: Image.Image
    mask: Bool[np.ndarray, "height width"]
    void: Bool[np.ndarray, "height width"] | None
    other: Bool[np.ndarray, "height width"] | None
    placement: Placement
    positive_part: bool

    def scores(self, values: Float[Tensor, "rows columns"]) -> ImageScores:
        """The scores of a map of the prepared picture.

        Raises:
            ValueError: if a value is NaN or infinite.
        """
        if not bool(values.isfinite().all()):
            raise ValueError("the map holds NaN or infinity")
        found = self.placement.to_photo(values, "bilinear")
        return image_scores(found, self.mask, self.void, self.other, positive_part=self.positive_part)


@dataclass(frozen=True)
class Planes:
    """How images are scored in one mode, for one model.

    Attributes:
        mode: see the head of this file.
        input_size: (width, height) of what the model takes.
        geometry: where its preprocessing puts a photograph; None where no step of it is followed.
    """

    mode: Mode
    input_size: tuple[int, int]
    geometry: Geometry | None

    @classmethod
    def of(cls, model: HookedCLIP, mode: Mode) -> Planes:
        """The planes of a model.

        Raises:
            ValueError: if there is no such mode, or it is not known where the preprocessing puts a photograph, for
                "original" and "squash".
        """
        checked_choice("mode", mode, get_args(Mode))
        height, width = model.cfg.image_size
        geometry = Geometry.of(model.preprocess, (width, height))
        if geometry is None and mode != "paper":
            raise ValueError(
                f"mode {mode!r} needs to know where {model.cfg.model_name}'s preprocessing puts a photograph, and a "
                f"step of it cannot be followed (or there is none). Give the model a preprocessing of Resize, "
                f"CenterCrop and open_clip's own steps: model.preprocess = ...; or score with mode 'paper'."
            )
        return cls(mode, (width, height), geometry)

    def plane(self, image: MaskedImage) -> Plane:
        """Where that image is scored.

        Raises:
            ValueError: see :meth:`~clip_lens_plugin.maps.crop_geometry.Placement.of`.
        """
        if self.mode == "original":
            assert self.geometry is not None
            placement = self.geometry.placement(image.picture.size)
            return Plane(image.picture, image.mask, image.void, image.other, placement, False)
        masks = (self._squashed(each) for each in (image.mask, image.void, image.other))
        mask, void, other = masks
        assert mask is not None
        if self.mode == "paper":
            width, height = self.input_size
            whole = Placement((width, height), (width, height), 1.0, 1.0, 0.0, 0.0)
            return Plane(image.picture, mask, void, other, whole, True)
        assert self.geometry is not None
        squashed = image.picture.resize(self.input_size, Image.Resampling.BILINEAR)
        return Plane(squashed, mask, void, other, self.geometry.placement(self.input_size), False)

    def _squashed(self, mask: Bool[np.ndarray, "height width"] | None) -> Bool[np.ndarray, "down across"] | None:
        if mask is None:
            return None
        small = Image.fromarray(mask.astype(np.uint8)).resize(self.input_size, Image.Resampling.NEAREST)
        return np.asarray(small).astype(bool)
