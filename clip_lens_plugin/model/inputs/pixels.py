"""Whether pixels are what the model's own preprocessing makes: refused where they cannot be, doubt is said.

A public function looks at all of its images once, before it runs the model on parts of them; a plain call of the model
looks at its own batch. The look costs one pass over the pixels, and one wait for a GPU.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from clip_lens_plugin.images.pixel_tensors import PixelError as PixelError
from clip_lens_plugin.images.pixel_tensors import refuse_not_pixels
from clip_lens_plugin.model.inputs.prepared_pixels import doubt_of, images_at
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.warned import warn


@dataclass
class _Call:
    """A public function that is running. ``looked``: at all of its images already; ``said``: what it has warned of."""

    looked: bool
    said: set[str] = field(default_factory=set)


_CALL: ContextVar[_Call | None] = ContextVar("pixels_call", default=None)


def check_batch(model: ImageModel, images: Any) -> None:
    """Looks at the images of one run of the model; inside :func:`checked`, only at their kind and shape.

    Raises:
        PixelError: if they are no floating-point tensor [b, 3, *image_size].
    """
    check_form(model, images)
    if torch.compiler.is_compiling():
        return
    call = _CALL.get() or _Call(looked=False)
    if not call.looked:
        _check_values(model, images, call, refuse_broken=False)


@contextmanager
def checked(model: ImageModel, images: Any, broken: Literal["refused", "said"] = "refused") -> Iterator[None]:
    """Looks at all images of a call at once; inside, runs of the model do not look at them again.

    Args:
        model: whose input they are to be.
        images: all of the call's.
        broken: whether pixels that are NaN or infinite are an error or a warning.

    Raises:
        PixelError: see :func:`check_batch`; or if a pixel is NaN or infinite, with the images' positions.
    """
    look(model, images, broken)
    with _as_call(_Call(looked=True)):
        yield


@contextmanager
def unlooked() -> Iterator[None]:
    """Inside, only the kind and shape of images is looked at: what a probe holds is known."""
    with _as_call(_Call(looked=True)):
        yield


def look(model: ImageModel, images: Any, broken: Literal["refused", "said"] = "refused") -> None:
    """Looks at all images of a call, as :func:`checked` does; for functions under :func:`once_a_call`."""
    check_form(model, images)
    call = _CALL.get() or _Call(looked=False)
    if not call.looked:
        _check_values(model, images, call, refuse_broken=broken == "refused")


@contextmanager
def once_a_call() -> Iterator[None]:
    """Inside, every batch is looked at, as of a data set that streams, but the same is not said twice.

    ``@once_a_call()`` above a function does so for each of its calls.
    """
    if _CALL.get() is not None:
        yield
        return
    with _as_call(_Call(looked=False)):
        yield


def check_form(model: ImageModel, images: Any) -> None:
    """Raises PixelError if the images are no floating-point tensor [b, 3, *image_size]."""
    name, size = model.cfg.model_name, tuple(model.cfg.image_size)
    takes = f"{name} takes preprocessed images of shape [batch, 3, {size[0]}, {size[1]}]"
    if not isinstance(images, Tensor):
        raise PixelError(f"{takes}, got {_described(images)}. {_way_out(images)}")
    refuse_not_pixels(images, takes)
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, *size):
        raise PixelError(f"{takes}, got {list(images.shape)}. {_reshaped(images.shape, size)}")


def one_image(model: ImageModel, image: Any) -> Float[Tensor, "1 3 height width"]:
    """The image as a batch of one.

    Raises:
        PixelError: if it is no floating-point tensor [3, *image_size].
    """
    name, shape = model.cfg.model_name, [3, *model.cfg.image_size]
    takes = f"One image is expected, preprocessed for {name}, of shape {shape}"
    if not isinstance(image, Tensor):
        raise PixelError(f"{takes}, got {_described(image)}. {_way_out(image, one=True)}")
    refuse_not_pixels(image, takes)
    if list(image.shape) != shape:
        way = (
            "Give images[i], one of the batch." if list(image.shape[1:]) == shape else _reshaped(image.shape, shape[1:])
        )
        raise PixelError(f"{takes}, got {list(image.shape)}. {way}")
    return image[None]


def broken_images(images: Tensor) -> list[int]:
    """Positions of images that hold a NaN or infinite pixel."""
    if not images.numel():
        return []
    return (~images.detach().isfinite()).flatten(1).any(1).nonzero().flatten().tolist()


def _check_values(model: ImageModel, images: Tensor, call: _Call, refuse_broken: bool) -> None:
    found = _extremes(images)
    if found is None:
        return
    lows, highs = found
    if not all(map(math.isfinite, lows + highs)):
        at = broken_images(images)
        broken = f"Pixels are NaN or infinite in {images_at(at)}"
        if refuse_broken:
            raise PixelError(f"{broken} of {len(images)}. Leave such images out, or mend them.")
        _say(call, "broken", f"{broken} of {len(images)}, so what is computed of such images means nothing.")
        return
    doubt = doubt_of(model, images, lows, highs)
    if doubt is not None:
        _say(call, "range", doubt)


def _extremes(images: Tensor) -> tuple[list[float], list[float]] | None:
    """Least and greatest pixel of each image; None where there are none, or where they cannot be looked at."""
    if not images.numel() or not has_values(images):
        return None
    with torch.no_grad():
        plain = images.detach().flatten(1)
        # Dtypes of 8 bits have no least and greatest.
        found = (plain.float() if plain.dtype.itemsize == 1 else plain).aminmax(dim=1)
        both = torch.stack([found.min, found.max])
    if not has_values(both):
        return None
    lows, highs = both.tolist()
    return lows, highs


def has_values(tensor: Tensor) -> bool:
    """Whether numbers can be read from it here: it is not fake, traced, mapped over, or recorded for a graph."""
    if tensor.is_meta or isinstance(tensor, FakeTensor) or is_traceable_wrapper_subclass(tensor):
        return False
    if torch._C._get_tracing_state() is not None:
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # pyright: ignore[reportAttributeAccessIssue]
        return False
    return not (tensor.is_cuda and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())


def _say(call: _Call, what: str, message: str) -> None:
    if what in call.said:
        return
    call.said.add(what)
    warn(message)


@contextmanager
def _as_call(call: _Call) -> Iterator[None]:
    token = _CALL.set(call)
    try:
        yield
    finally:
        _CALL.reset(token)


def _described(given: Any) -> str:
    if isinstance(given, np.ndarray):
        return f"a numpy array of {given.dtype} and shape {list(given.shape)}"
    if isinstance(given, list | tuple):
        return f"a {type(given).__name__} of {len(given)} {type(given[0]).__name__ if given else 'items'}"
    if isinstance(given, Image.Image):
        return f"a picture of {given.size[0]} x {given.size[1]} pixels"
    return f"a {type(given).__name__}"


def _way_out(given: Any, one: bool = False) -> str:
    """The call that makes pixels of it."""
    if one:
        return "Make it with model.prepare(picture)[0]."
    first = given[0] if isinstance(given, list | tuple) and given else given
    if isinstance(first, Image.Image | str | os.PathLike):
        return "Give model.prepare(images), which opens and preprocesses pictures."
    if isinstance(first, np.ndarray):
        return (
            "Make pictures of arrays, model.prepare([PIL.Image.fromarray(array)]); what is preprocessed becomes "
            "a tensor by torch.from_numpy."
        )
    if isinstance(first, Tensor):
        return "Join images of shape [3, height, width] by torch.stack(images), batches by torch.cat(images)."
    if hasattr(given, "keys") and "pixel_values" in given:
        return 'Give its images["pixel_values"].'
    return "Make them with model.prepare([picture, ...]), or torch.stack of what model.preprocess(picture) gives."


def _reshaped(shape: Sequence[int], size: Sequence[int]) -> str:
    shape, size = tuple(shape), tuple(size)
    if shape == (3, *size):
        return "One image needs a dimension of the batch: images[None]. Pictures become such by model.preprocess."
    if shape[-3:] == (*size, 3):
        order = "images.permute(2, 0, 1)[None]" if len(shape) == 3 else "images.permute(0, 3, 1, 2)"
        if len(shape) <= 4:
            return f"Colours come before rows and columns: {order}, of pixels that model.preprocess made."
    if len(shape) > 4 and shape[-3:] == (3, *size):
        return f"It has {len(shape)} dimensions: images.flatten(0, {len(shape) - 4}). Pictures go to model.preprocess."
    if len(shape) == 4 and shape[1] != 3 and shape[2:] == size:
        return f"Images have 3 colours, these {shape[1]}: model.prepare(pictures) converts, as does model.preprocess."
    return "Prepare them with model.prepare([picture, ...]), or model.preprocess(picture) and torch.stack."
