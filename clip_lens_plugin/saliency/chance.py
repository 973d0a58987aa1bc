"""A map of nothing: what any other one has to be better than."""

from __future__ import annotations

import zlib

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.model.protocol import ImageModel


def random(model: ImageModel, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b rows columns"]:
    """Normal noise, drawn from a seed that an image's own pixels give: the same for it in every batch and run."""
    return torch.stack([_noise(each, model.cfg.grid_size) for each in images]).to(model.cfg.device)


def _noise(image: Float[Tensor, "3 height width"], grid_size: tuple[int, int]) -> Float[Tensor, "rows columns"]:
    pixels = image.detach().to("cpu", torch.float32).contiguous()
    seeded = torch.Generator("cpu").manual_seed(zlib.crc32(pixels.numpy().tobytes()))
    return torch.randn(grid_size, generator=seeded, device="cpu")
