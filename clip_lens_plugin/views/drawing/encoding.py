"""Pictures and numbers as text that a page can hold."""

from __future__ import annotations

import base64
import io

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from clip_lens_plugin.images.pictures import upright_rgb


def picture_uri(picture: Image.Image, side: int) -> str:
    """A JPEG as a data address, its longer side at most ``side`` pixels."""
    small = upright_rgb(picture).copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def png_uri(png: bytes) -> str:
    """A PNG as a data address."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def floats(values: Float[Tensor, "..."]) -> dict[str, object]:
    """float32 numbers with their shape, exactly; ``decode`` in ``static/runtime.js`` reads them."""
    array = values.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False)
    return {"shape": list(array.shape), "float32": base64.b64encode(array.tobytes()).decode()}


def weights(values: Float[Tensor, "..."]) -> dict[str, object]:
    """Numbers from 0 up in 8 bits each, in steps of 1/255 of the greatest of each last two dimensions.

    For showing attention patterns, of which there are many; ``decode`` in ``static/runtime.js`` reads them.

    Raises:
        ValueError: if one is negative or not finite, or there are fewer than two dimensions.
    """
    found = values.detach().to("cpu", torch.float32)
    if found.ndim < 2 or not bool((found.isfinite() & (found >= 0)).all()):
        raise ValueError(f"weights takes finite numbers from 0 up of two or more dimensions, got {list(found.shape)}.")
    greatest = found.amax((-2, -1)) if found.numel() else found.new_zeros(found.shape[:-2])
    steps = (found / greatest.clamp(min=torch.finfo(torch.float32).tiny)[..., None, None] * 255).round()
    packed = base64.b64encode(steps.to(torch.uint8).contiguous().numpy().tobytes()).decode()
    return {"shape": list(found.shape), "uint8": packed, "greatest": greatest.flatten().tolist()}
