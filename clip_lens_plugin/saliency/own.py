"""This package's maps: what each patch adds to the cosine with the text, through the heads.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, section 5 (joint decomposition) and equation 4.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.maps.scoring import token_scores
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.statistics.moments import late_layers

TOGETHER = 8
"""Images in a run: every image's tokens are scored against the texts of all of them, of which one is kept."""


def patch_text(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    """What each patch adds to the contrast, summed over all heads: the map of the paper."""
    return _summed(model, images, contrasts, range(model.cfg.n_layers))


def last_layers(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"]
) -> Float[Tensor, "b rows columns"]:
    """The same, summed over the heads of the last four layers, which the paper finds to make most of the effect."""
    return _summed(model, images, contrasts, late_layers(model.cfg.n_layers))


def _summed(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"], layers: range
) -> Float[Tensor, "b rows columns"]:
    parts = zip(images.split(TOGETHER), contrasts.split(TOGETHER), strict=True)
    return torch.cat([_of_few(model, *part, layers) for part in parts])


def _of_few(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], contrasts: Float[Tensor, "b e"], layers: range
) -> Float[Tensor, "b rows columns"]:
    lengths = contrasts.norm(dim=-1)
    scores = token_scores(model, images, contrasts / lengths[:, None])
    own = torch.arange(len(images), device=scores.device)
    with full_precision():
        summed = scores[own, layers.start : layers.stop, :, model.cfg.n_prefix_tokens :, own].sum((1, 2))
        return (summed * lengths[:, None].to(summed)).unflatten(-1, model.cfg.grid_size)
