"""Pictures that are asked about: each is run once, and kept for the next texts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.app.last_used import LastUsed
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.running.runs import decompose_images
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.maps.patch_text import HeadTextScores
from clip_lens_plugin.maps.pictured import Pictured, followed, pictured_of
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.hooks.interventions import refuse_left_hooks
from clip_lens_plugin.model.inputs.given import GivenImages
from clip_lens_plugin.numerics.precision import full_precision

MOST_KEPT = 8
"""Pictures; the factors of one take about 8 MB of ViT-B-16."""


@dataclass(frozen=True)
class Asked:
    """A picture that the model was run on.

    Attributes:
        photograph: the picture.
        pixels: what the model takes of it [1, 3, height, width].
        own: its contributions in cosine units, token by token.
        pictured: where the model's input lies on it.
        grid_size: rows and columns of patches.
    """

    photograph: Photograph
    pixels: Float[Tensor, "1 3 height width"]
    own: Contributions
    pictured: Pictured
    grid_size: tuple[int, int]

    @full_precision()
    def cosine(self, texts: Float[Tensor, "t e"]) -> Float[Tensor, " t"]:
        """With unit text embeddings."""
        return equations.towards(self.own.embedding.to(texts), texts)[0]

    def scores(self, texts: tuple[str, ...], embeddings: Float[Tensor, "t e"]) -> HeadTextScores:
        """What each token adds through each head: the model is not run again."""
        with torch.no_grad():
            by_token = self.own.towards(embeddings, per_token=True)[0]
            return HeadTextScores(by_token, self.cosine(embeddings), texts, self.grid_size, self.pictured)


@dataclass
class AskedPictures:
    """The last pictures that were asked about, for any number of browsers at once.

    Attributes:
        model: runs them.
    """

    model: HookedCLIP
    _kept: LastUsed[Asked] = field(default_factory=lambda: LastUsed(MOST_KEPT), repr=False)

    def of(self, photograph: Photograph) -> Asked:
        """The picture's run: a kept one, or a new one.

        Raises:
            ValueError: if the picture cannot be used, or hooks were left on the model.
        """
        picture = photograph.open()
        key = hashlib.sha256(f"{picture.size}{photograph.name}".encode() + picture.tobytes()).digest()
        refuse_left_hooks(self.model, "The explorer shows the model as it is")
        return self._kept.of(key, lambda: self._run(Photograph(picture, photograph.name)))

    def _run(self, photograph: Photograph) -> Asked:
        given = followed(GivenImages(self.model, None, (photograph,)))
        pixels = given.pixels(slice(None))
        own = decompose_images(self.model, pixels, tokens=True).normalized()
        return Asked(photograph, pixels, own, pictured_of(given)[0], self.model.cfg.grid_size)
