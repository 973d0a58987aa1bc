"""From a cache, or from images, to the contributions of every component.

Source: Gandelsman, Efros and Steinhardt, "Interpreting CLIP's Image Representation via Text-Based Decomposition",
ICLR 2024, equations 1 to 4. With LayerNorm's statistics frozen, ``M(I) = Σ_q ω[b,q] (C Z_L[b,q] ⊙ γ) P + βP``
is linear in the last stream Z_L, and the stream is a sum over components. C removes a vector's own mean, so no
mean has to be shared out; β and the attention's output biases are components of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from transformer_lens import ActivationCache

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.bars import tracked
from clip_lens_plugin.decomposition.completeness import CompletenessError
from clip_lens_plugin.decomposition.constants import Constants, GivenConstants, checked_constants
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.decomposition.running.activations import factors_from_cache, factors_from_images
from clip_lens_plugin.decomposition.running.run_size import images_in_run
from clip_lens_plugin.decomposition.text_contributions import TextContributions
from clip_lens_plugin.model.bridged import resolved_with, takes_bridges
from clip_lens_plugin.model.inputs.given import GivenImages, given_images
from clip_lens_plugin.model.protocol import ImageModel, Tower
from clip_lens_plugin.warned import warn

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Made = TypeVar("Made", bound=Contributions)


def decompose(
    model: Tower | TransformerBridge,
    cache: ActivationCache,
    *,
    constants: GivenConstants = "separate",
    strict: bool = False,
) -> Contributions:
    """The contributions of a cached run: whatever hooks changed in it is what gets decomposed.

    Args:
        model: the model that was run; or the text tower, ``model.text``.
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
    model, cache = resolved_with(model, cache)
    with torch.no_grad():
        kind = Contributions if isinstance(model, ImageModel) else TextContributions
        made = kind.of_run(Readout.of(model), factors_from_cache(model, cache), constants)
        return checked_sum(made, strict)


@takes_bridges
def decompose_images(
    model: ImageModel,
    images: Any,
    *,
    tokens: bool = False,
    neurons: bool = False,
    constants: GivenConstants = "separate",
    batch_size: int | None = None,
    strict: bool = False,
    progress: bool = False,
) -> Contributions:
    """The contributions of images, of which a run keeps only the factors: no cache, no n × n pattern.

    Hooks that are on the model stay in force, so ``with model.hooks(...)`` around the call decomposes the model
    under intervention. That the parts sum to the embedding is checked run by run. What is kept is written to its place
    at once, so that memory peaks at that and what one run of the model takes.

    Args:
        images: any number of them: the path of a picture or of a folder, pictures, or preprocessed images
            [b, 3, height, width]; see :mod:`clip_lens_plugin.model.inputs.given`. Contributions of pictures know their
            names.
        tokens: keep what single tokens contribute (about n · d numbers per layer and image).
        neurons: keep what single neurons contribute (d_mlp numbers per layer and image).
        constants, strict: see :func:`decompose`.
        batch_size: images in each run of the model; 32 if not given, and on a CPU as few as 8 (4 of 256 images
            or more, and with tokens that the pooling reads all of) where so many would take more memory than a small
            part of the result.
        progress: show a progress bar.

    Raises:
        ValueError: if there is no image, ``batch_size`` is no whole number of at least 1, or ``constants`` is neither
            name.
        PixelError: if the images are neither pictures nor a floating-point tensor of the model's shape; doubtful
            pixels are a warning.
        UnreadableImageError: a ValueError, if a picture cannot be used; the message names it. (``collect`` skips such.)
        CompletenessError: see :func:`decompose`.
    """
    constants = checked_constants(constants)
    given = given_images(model, images)
    n = len(given)
    size = images_in_run(model, n, tokens, neurons) if batch_size is None else checked_number("batch_size", batch_size)
    starts = tracked(range(0, n, size), "decomposing", progress)
    with torch.no_grad(), given.checked(broken="said"):
        made = runs(model, given, starts, size, tokens, neurons, constants, strict)
        return checked_sum(Contributions.joined(made, n, given.photographs), strict)


def runs(
    model: ImageModel,
    given: GivenImages,
    starts: Iterable[int],
    size: int,
    tokens: bool = False,
    neurons: bool = False,
    constants: Constants = "separate",
    strict: bool = False,
) -> Iterator[Contributions]:
    """The contributions of one run of the model after another, none of which is held here.

    Args:
        given: the images.
        starts: position of the first image of each run; asked for when the run before is done with.
        size: images in a run.
        tokens, neurons, constants, strict: see :func:`decompose_images`.
    """
    readout = Readout.of(model)
    for start in starts:
        factors = factors_from_images(model, given.pixels(slice(start, start + size)), tokens, neurons)
        run = Contributions.of_run(readout, factors, constants)
        del factors
        yield run.check() if strict else run
        del run  # Not to be held while the next is made.


def checked_sum(contributions: Made, strict: bool) -> Made:
    """The same; that its parts do not sum to the embedding is an error, or a warning if not ``strict``."""
    try:
        return contributions.check()
    except CompletenessError as error:
        if strict:
            raise
        warn(str(error))
        return contributions
