"""Whether pixels are what the model's own preprocessing makes: refused where they cannot be, doubt is said.

A public function looks at all of its images once, before it runs the model on parts of them; a plain call of the model
looks at its own batch. The look costs one pass over the pixels, and one wait for a GPU.
"""

from __future__ import annotations

import math
import os
import random
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

if TYPE_CHECKING:
    from clip_lens_plugin.hooked_clip import HookedCLIP

BEYOND = 1.0
"""How far values may leave the range of black and white: resampling overshoots, optimised pixels wander."""

NORMALISED_BLACK = -0.5
"""Where black lies below, pixels from 0 to 1 are taken for pixels that were not normalised."""

ON_A_STEP = 0.3
"""How far, in steps of 1/255, a value may be from one that a picture of bytes gives; bfloat16 rounds by as much."""

BEYOND_ANY = 20.0
"""Farther from 0 than any normalisation puts black and white: what is said where the model has no preprocessing."""

OUTSIDE = ("clip_lens_plugin", "torch", "transformer_lens", "jaxtyping", "beartype", "contextlib")
"""Packages whose lines a warning is not laid to."""


class PixelError(ValueError, TypeError):
    """Images are no tensor of preprocessed pixels; the message names the call that makes one of them."""


@dataclass(frozen=True)
class PixelRange:
    """What the model's preprocessing makes of a black and of a white picture, in its own units.

    Attributes:
        black, white: one value for each channel, or None where a picture of one colour does not come out as such.
        least, greatest: over both pictures.
    """

    black: list[float] | None
    white: list[float] | None
    least: float
    greatest: float


@dataclass
class _Call:
    """A public function that is running. ``looked``: at all of its images already; ``said``: what it has warned of."""

    looked: bool
    said: set[str] = field(default_factory=set)


_CALL: ContextVar[_Call | None] = ContextVar("pixels_call", default=None)


def check_batch(model: HookedCLIP, images: Any) -> None:
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
def checked(model: HookedCLIP, images: Any, broken: Literal["refused", "said"] = "refused") -> Iterator[None]:
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


def look(model: HookedCLIP, images: Any, broken: Literal["refused", "said"] = "refused") -> None:
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


def check_form(model: HookedCLIP, images: Any) -> None:
    """Raises PixelError if the images are no floating-point tensor [b, 3, *image_size]."""
    name, size = model.cfg.model_name, tuple(model.cfg.image_size)
    takes = f"{name} takes preprocessed images of shape [batch, 3, {size[0]}, {size[1]}]"
    if not isinstance(images, Tensor):
        raise PixelError(f"{takes}, got {_described(images)}. {_way_out(images)}")
    refuse_not_pixels(images, takes)
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, *size):
        raise PixelError(f"{takes}, got {list(images.shape)}. {_reshaped(images.shape, size)}")


def one_image(model: HookedCLIP, image: Any) -> Float[Tensor, "1 3 height width"]:
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


def broken_images(images: Tensor) -> list[int]:
    """Positions of images that hold a NaN or infinite pixel."""
    if not images.numel():
        return []
    return (~images.detach().isfinite()).flatten(1).any(1).nonzero().flatten().tolist()


def pixel_range(model: HookedCLIP) -> PixelRange | None:
    """What ``model.preprocess`` makes of black and white; None where there is none, or it makes no pixels of them.

    Found once for a preprocessing, by running it.
    """
    kept = model.__dict__.get("_pixel_range")
    if kept is None or kept[0] is not model.preprocess:
        kept = model.__dict__["_pixel_range"] = (model.preprocess, _range_of(model))
    return kept[1]


def _check_values(model: HookedCLIP, images: Tensor, call: _Call, refuse_broken: bool) -> None:
    found = _extremes(images)
    if found is None:
        return
    lows, highs = found
    if not all(map(math.isfinite, lows + highs)):
        at = broken_images(images)
        told = f"Pixels are NaN or infinite in {_listed(at)}"
        if refuse_broken:
            raise PixelError(f"{told} of {len(images)}. Leave such images out, or mend them.")
        _say(call, "broken", f"{told} of {len(images)}, so what is computed of such images means nothing.")
        return
    doubt = _doubt(model, images, lows, highs)
    if doubt is not None:
        _say(call, "range", doubt)


def _listed(at: list[int]) -> str:
    """Positions of images, in words."""
    listed = ", ".join(map(str, at[:5])) + (f" and {len(at) - 5} more" if len(at) > 5 else "")
    return f"{'image' if len(at) == 1 else 'images'} {listed}"


def _doubt(model: HookedCLIP, images: Tensor, lows: list[float], highs: list[float]) -> str | None:
    """Why these are hardly pixels of the model's preprocessing; None if they may well be.

    Args:
        lows, highs: the least and the greatest pixel of each image.
    """
    name, low, high = model.cfg.model_name, min(lows), max(highs)
    mend = "Make them with model.prepare([picture, ...]), or model.preprocess(picture)."
    known = pixel_range(model)
    if known is None:
        if max(-low, high) <= BEYOND_ANY:
            return None
        return (
            f"The pixels run from {low:.3g} to {high:.3g}, beyond what any normalisation makes of black and white: "
            f"they look like 0 to 255, so that the embeddings would mean nothing. {name} was wrapped without its "
            f"preprocessing; scale and normalise them as it was trained."
        )
    told = f"black and white lie from {known.least:.3g} to {known.greatest:.3g} in {name}'s own preprocessing"
    least, greatest = known.least - BEYOND, known.greatest + BEYOND
    outside = [i for i, ends in enumerate(zip(lows, highs, strict=True)) if ends[0] < least or ends[1] > greatest]
    if outside:
        low, high = min(lows[i] for i in outside), max(highs[i] for i in outside)
        which = _which("The pixels", outside, len(lows))
        return f"{which} run from {low:.3g} to {high:.3g}, but {told}: they were not preprocessed so. {mend}"
    at = _not_normalised(images, known, lows, highs)
    if at:
        low, high = min(lows[i] for i in at), max(highs[i] for i in at)
        return (
            f"{_which('All pixels', at, len(lows))} lie in 0 to 1 (from {low:.3g} to {high:.3g}), but {told}: they "
            f"look as if they were not normalised. {mend}"
        )
    return None


def _which(pixels: str, at: list[int], n: int) -> str:
    return pixels if len(at) == n else f"{pixels} of {_listed(at)} of {n}"


def _not_normalised(images: Tensor, known: PixelRange, lows: list[float], highs: list[float]) -> list[int]:
    """Positions of images in 0 to 1 that the model's preprocessing did not make.

    A pale or grey picture may come to lie there. It is told by its values: of a picture of bytes, each is one of 256,
    which lie evenly between those of black and white.
    """
    if known.black is None or known.white is None or max(known.black) >= NORMALISED_BLACK:
        return []
    # All of one value, as a grey or a zero baseline, they say nothing of how they were made.
    found = [i for i, (low, high) in enumerate(zip(lows, highs, strict=True)) if 0 <= low < high <= 1]
    if not found:
        return []
    pixels = images.detach()[found].double().cpu()
    black, white = (torch.tensor(ends, dtype=torch.double).reshape(3, 1, 1) for ends in (known.black, known.white))
    steps = (pixels - black) / (white - black) * 255
    eps = max(torch.finfo(images.dtype).eps, torch.finfo(torch.float32).eps)  # Preprocessing computes in float32.
    rounding = 8 * eps * pixels.abs().clamp_min(1) / (white - black).abs() * 255
    made = ((steps - steps.round()).abs() <= rounding.clamp_max(ON_A_STEP)).flatten(1).all(1)
    return [i for i, is_made in zip(found, made.tolist(), strict=True) if not is_made]


def _extremes(images: Tensor) -> tuple[list[float], list[float]] | None:
    """Least and greatest pixel of each image; None where there are none, or where they cannot be looked at."""
    if not images.numel() or not _has_values(images):
        return None
    with torch.no_grad():
        plain = images.detach().flatten(1)
        # Dtypes of 8 bits have no least and greatest.
        found = (plain.float() if plain.dtype.itemsize == 1 else plain).aminmax(dim=1)
        both = torch.stack([found.min, found.max])
    if not _has_values(both):
        return None
    lows, highs = both.tolist()
    return lows, highs


def _has_values(tensor: Tensor) -> bool:
    """Whether numbers can be read from it here: it is not fake, traced, mapped over, or recorded for a graph."""
    if tensor.is_meta or isinstance(tensor, FakeTensor) or is_traceable_wrapper_subclass(tensor):
        return False
    if torch._C._get_tracing_state() is not None:
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # pyright: ignore[reportAttributeAccessIssue]
        return False
    return not (tensor.is_cuda and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())


def _range_of(model: HookedCLIP) -> PixelRange | None:
    if model.preprocess is None:
        return None
    height, width = model.cfg.image_size
    state = random.getstate()
    try:
        # A preprocessing may draw random numbers; a look at pixels moves nobody's seed.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            made = [model.preprocess(Image.new("RGB", (width, height), colour)) for colour in ("black", "white")]
        black, white = (torch.as_tensor(each).detach().double().cpu() for each in made)
        both = torch.stack([black, white])
    except Exception:  # Anybody's preprocessing may raise anything; then nothing is known of it.
        return None
    finally:
        random.setstate(state)
    if not both.numel() or not bool(both.isfinite().all()):
        return None
    return PixelRange(_by_channel(black), _by_channel(white), float(both.min()), float(both.max()))


def _by_channel(made: Tensor) -> list[float] | None:
    """What a picture of one colour became."""
    if made.ndim != 3 or len(made) != 3 or bool((made != made[:, :1, :1]).any()):
        return None
    return made[:, 0, 0].tolist()


def _say(call: _Call, what: str, message: str) -> None:
    if what in call.said:
        return
    call.said.add(what)
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in OUTSIDE:
        frame = frame.f_back
    # Laid to the caller's line, so that Python shows it once for each such line.
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, UserWarning, frame.f_code.co_filename, frame.f_lineno, registry=registry)


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
