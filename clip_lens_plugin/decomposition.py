"""From a cache, or from images, to the contributions of every component.

Source: Gandelsman, Efros and Steinhardt, "Interpreting CLIP's Image Representation via Text-Based Decomposition",
ICLR 2024, equations 1 to 4. With LayerNorm's statistics frozen, ``M(I) = Σ_q ω[b,q] (C Z_L[b,q] ⊙ γ) P + βP``
is linear in the last stream Z_L, and the stream is a sum over components. C removes a vector's own mean, so no
mean has to be shared out; β and the attention's output biases are components of their own.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor
from transformer_lens import ActivationCache

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.bridge.model import CLIPLike, as_hooked_clip, with_cache
from clip_lens_plugin.constants import Constants, GivenConstants, checked_constants
from clip_lens_plugin.contributions import CompletenessError, Contributions
from clip_lens_plugin.factors import Factors, factors_from_cache, factors_from_images
from clip_lens_plugin.pixels import check_form, checked
from clip_lens_plugin.readout import Readout

if TYPE_CHECKING:
    from clip_lens_plugin.hooked_clip import HookedCLIP


def decompose(
    model: CLIPLike,
    cache: ActivationCache,
    *,
    constants: GivenConstants = "separate",
    strict: bool = False,
) -> Contributions:
    """The contributions of a cached run: whatever hooks changed in it is what gets decomposed.

    Args:
        model: the model that was run.
        cache: a full cache of ``model.run_with_cache``, or one with the activations that are needed.
        constants: "separate" gives each component minus its own mean, and keeps b_O and βP as components. "shared"
            shares the mean, b_O and βP out equally, as the paper's code does, to compare published numbers. (The
            earlier words "apart" and "spread" mean the same.)
        strict: raise, instead of warn, if the parts do not sum to the embedding.

    Raises:
        MissingActivationsError: if the cache lacks activations; the message names them.
        ValueError: if the cache has no batch dimension or was sliced, or ``constants`` is neither name.
        CompletenessError: in strict mode, if the sum of the parts is off by more than rounding.
    """
    constants = checked_constants(constants)
    model, cache = with_cache(model, cache)
    with torch.no_grad():
        return _finish(model, factors_from_cache(model, cache), constants, strict)


def decompose_images(
    model: CLIPLike,
    images: Float[Tensor, "b 3 height width"],
    *,
    tokens: bool = False,
    neurons: bool = False,
    constants: GivenConstants = "separate",
    batch_size: int = 32,
    strict: bool = False,
    progress: bool = False,
) -> Contributions:
    """Runs the model and keeps only the factors of the contributions: no cache, no n × n pattern.

    Hooks that are on the model stay in force, so ``with model.hooks(...)`` around the call decomposes the model
    under intervention.

    Args:
        images: preprocessed images, any number of them.
        tokens: keep what single tokens contribute (about n · d numbers a layer and image).
        neurons: keep what single neurons contribute (d_mlp numbers a layer and image).
        constants, strict: see :func:`decompose`.
        batch_size: images a run.
        progress: show a progress bar.

    Raises:
        ValueError: if there is no image, ``batch_size`` is no whole number of at least 1, or ``constants`` is neither
            name.
        PixelError: if the images are no floating-point tensor of the model's shape; doubtful pixels are a warning.
        CompletenessError: see :func:`decompose`.
    """
    constants = checked_constants(constants)
    model = as_hooked_clip(model)
    batch_size = checked_number("batch_size", batch_size)
    check_form(model, images)
    if len(images) == 0:
        raise ValueError("decompose was given no images; give a tensor [b, 3, height, width] with b ≥ 1.")
    starts = range(0, len(images), batch_size)
    shown = track(starts, "decomposing", disable=not progress)
    with torch.no_grad(), checked(model, images, broken="said"):
        parts = [factors_from_images(model, images[start : start + batch_size], tokens, neurons) for start in shown]
        return _finish(model, Factors.cat(parts), constants, strict)


def _finish(model: HookedCLIP, factors: Factors, constants: Constants, strict: bool) -> Contributions:
    contributions = Contributions.of_run(Readout.of(model), factors, constants)
    try:
        return contributions.check()
    except CompletenessError as error:
        if strict:
            raise
        warnings.warn(str(error), stacklevel=3)
        return contributions
