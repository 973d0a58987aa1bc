"""Whether a tensor can hold pixels at all."""

from __future__ import annotations

import torch
from torch import Tensor


class PixelError(ValueError, TypeError):
    """Images are no tensor of preprocessed pixels; the message names the call that makes one of them."""


def refuse_not_pixels(images: Tensor, takes: str) -> None:
    """Raises PixelError if a tensor's values are no floating-point numbers, or lie otherwise than in plain order.

    Args:
        images: of any shape.
        takes: what is expected; the message begins with it.
    """
    kind = None
    if images.is_quantized:
        kind = "a quantised tensor"
    elif images.is_nested:  # has no one shape
        raise PixelError(f"{takes}, got a nested tensor of {images.dtype}. Pad or crop the images to one size.")
    elif images.layout != torch.strided:
        kind = "a sparse tensor"
    elif images.device.type == "meta":
        kind = "a tensor without values, on the device meta,"
    elif not images.is_floating_point():
        kind = "a tensor"
    if kind is not None:
        raise PixelError(
            f"{takes}, got {kind} of {images.dtype} and shape {list(images.shape)}. Pixels are floating-point numbers "
            f"that the model's own preprocessing made: model.prepare([picture, ...]), or model.preprocess(picture)."
        )
