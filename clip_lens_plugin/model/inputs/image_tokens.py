"""Images where TransformerLens counts positions: its tools read their number off the last dimension of their input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.dependencies.of_transformer_lens import counts_positions
from clip_lens_plugin.model.bridged import resolved
from clip_lens_plugin.model.inputs.given import given_images


@dataclass(frozen=True)
class ImageTokens:
    """b images as rows of n tokens, which is the shape that they show; a model runs on them as on the images.

    Attributes:
        images: preprocessed [b, 3, height, width].
        n_tokens: n, of the model.
    """

    images: Float[Tensor, "b 3 height width"]
    n_tokens: int

    @property
    def shape(self) -> torch.Size:
        """[b, n]."""
        return torch.Size((len(self.images), self.n_tokens))

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    @property
    def dtype(self) -> torch.dtype:
        """The images'."""
        return self.images.dtype

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> ImageTokens:
        return ImageTokens(self.images[rows], self.n_tokens)


def image_tokens(model: Any, images: Any) -> ImageTokens:
    """The images as TransformerLens's functions over positions take them: as their tokens, which they count.

    ``patching.get_act_patch_resid_pre(model, image_tokens(model, images), cache, metric)`` then gives every layer and
    position. Works wherever a tool runs the model on what it was given.

    Args:
        model: a :class:`HookedCLIP` or a ``TransformerBridge`` of an image tower.
        images: preprocessed images [b, 3, height, width], or paths or pictures.

    Raises:
        PixelError: if they are none of these.
    """
    if not isinstance(images, Tensor) or images.ndim != 4:
        images = given_images(resolved(model), images).pixels(slice(None))
    return ImageTokens(images, model.cfg.n_ctx)


def pixels_of(images: Any) -> Any:
    """What :func:`image_tokens` was given; anything else as it is."""
    return images.images if isinstance(images, ImageTokens) else images


def refuse_width_for_positions(n_tokens: int, model_args: Sequence[Any], hooks: Sequence[Any]) -> None:
    """Refuses a run for a patching function of TransformerLens that takes the width of its images for their tokens.

    Args:
        n_tokens: of an image.
        model_args: what the model is run on.
        hooks: (name, hook) of the run.

    Raises:
        ValueError: naming :func:`image_tokens`.
    """
    given = model_args[0] if model_args else None
    if not isinstance(given, Tensor) or given.ndim != 4 or given.shape[-1] == n_tokens:
        return
    if any(isinstance(hook, partial) for _, hook in hooks) and counts_positions():
        raise ValueError(
            f"TransformerLens's patching takes the last dimension of its input for the number of positions, here the "
            f"width of the images, {given.shape[-1]} pixels, where the model has {n_tokens} tokens. Give it "
            f"clip_lens_plugin.image_tokens(model, images) in place of the images."
        )
