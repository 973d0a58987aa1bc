"""What the model's preprocessing makes of pictures, and why given pixels are hardly of its making."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from clip_lens_plugin.model.protocol import ImageModel

BEYOND = 1.0
"""How far values may leave the range of black and white: resampling overshoots, optimised pixels wander."""

NORMALISED_BLACK = -0.5
"""Where black lies below, pixels from 0 to 1 are taken for pixels that were not normalised."""

ON_A_STEP = 0.3
"""How far, in steps of 1/255, a value may be from one that a picture of bytes gives; bfloat16 rounds by as much."""

BEYOND_ANY = 20.0
"""Farther from 0 than any normalisation puts black and white: what is said where the model has no preprocessing."""


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


def pixel_range(model: ImageModel) -> PixelRange | None:
    """What ``model.preprocess`` makes of black and white; None where there is none, or it makes no pixels of them.

    Found once for a preprocessing, by running it.
    """
    kept = vars(model).get("_pixel_range")
    if kept is None or kept[0] is not model.preprocess:
        kept = vars(model)["_pixel_range"] = (model.preprocess, _range_of(model))
    return kept[1]


def doubt_of(model: ImageModel, images: Tensor, lows: list[float], highs: list[float]) -> str | None:
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
    expected = f"black and white lie from {known.least:.3g} to {known.greatest:.3g} in {name}'s own preprocessing"
    least, greatest = known.least - BEYOND, known.greatest + BEYOND
    outside = [i for i, ends in enumerate(zip(lows, highs, strict=True)) if ends[0] < least or ends[1] > greatest]
    if outside:
        low, high = min(lows[i] for i in outside), max(highs[i] for i in outside)
        which = _which("The pixels", outside, len(lows))
        return f"{which} run from {low:.3g} to {high:.3g}, but {expected}: they were not preprocessed so. {mend}"
    at = _not_normalised(images, known, lows, highs)
    if at:
        low, high = min(lows[i] for i in at), max(highs[i] for i in at)
        return (
            f"{_which('All pixels', at, len(lows))} lie in 0 to 1 (from {low:.3g} to {high:.3g}), but {expected}: they "
            f"look as if they were not normalised. {mend}"
        )
    return None


def _which(pixels: str, at: list[int], n: int) -> str:
    return pixels if len(at) == n else f"{pixels} of {images_at(at)} of {n}"


def _not_normalised(images: Tensor, known: PixelRange, lows: list[float], highs: list[float]) -> list[int]:
    """Positions of images in 0 to 1 that the model's preprocessing did not make.

    A pale or grey picture may come to lie there. It is recognised by its values: of a picture of bytes, each is one of
    256, which lie evenly between those of black and white.
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


def _range_of(model: ImageModel) -> PixelRange | None:
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


def images_at(at: list[int]) -> str:
    """Positions of images, in words."""
    listed = ", ".join(map(str, at[:5])) + (f" and {len(at) - 5} more" if len(at) > 5 else "")
    return f"{'image' if len(at) == 1 else 'images'} {listed}"
