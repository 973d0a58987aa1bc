"""What each source token adds, through each head, to images' cosine similarities to texts, as the model runs.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, section 5 (joint decomposition) and equation 4.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.constants import Constants, GivenConstants, checked_constants
from clip_lens_plugin.decomposition.parts.parts import share_weights
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.decomposition.running.activations import Factors, factors_from_images
from clip_lens_plugin.decomposition.running.run_size import images_with_patterns
from clip_lens_plugin.decomposition.running.runs import decompose_images
from clip_lens_plugin.model.hooks.interventions import hooked_heads
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.numerics.precision import full_precision


def token_scores(
    model: ImageModel,
    images: Float[Tensor, "b 3 height width"],
    text_embeddings: Float[Tensor, "t e"],
    constants: GivenConstants = "separate",
) -> Float[Tensor, "b l h n t"]:
    """c[b, l, h, i] · e_t / ‖M(I)‖ for every head and source token, in cosine units.

    The same numbers as ``model.decompose(images, tokens=True).normalized().towards(texts, per_token=True)``, with the
    same ``constants``, but each layer's values are contracted with the texts while the model runs, so that neither
    they nor anything of width e is kept. Where the pooling reads many tokens, queries and keys wait for the end of a
    run, when ω is known: then a few images are run at a time.

    Raises:
        TokensNotAvailableError: a ValueError, if a hook replaces what a head puts out, so that it is no sum over
            tokens; a head that a hook sets to zero scores zero.
    """
    return scores_and_cosine(model, images, text_embeddings, constants)[0]


def scores_and_cosine(
    model: ImageModel,
    images: Float[Tensor, "b 3 height width"],
    text_embeddings: Float[Tensor, "t e"],
    constants: GivenConstants = "separate",
) -> tuple[Float[Tensor, "b l h n t"], Float[Tensor, "b t"]]:
    """The same as :func:`token_scores`, and the images' whole cosine similarities to the texts, from the same run."""
    constants, readout, cfg, n = checked_constants(constants), Readout.of(model), model.cfg, len(images)
    with torch.no_grad():
        texts = readout.checked_texts(text_embeddings)
        if hooked_heads(model):
            return _of_contributions(model, images, texts, constants)
        directions = readout.directions(texts, constants)[:, :, : readout.own_coordinates]
        scores = texts.new_empty(n, cfg.n_layers, cfg.n_heads, cfg.n_ctx, len(texts))
        cosine = texts.new_empty(n, len(texts))
        size = images_with_patterns(model, n, len(texts))
        for start in range(0, n, size):
            rows = slice(start, start + size)
            factors = factors_from_images(model, images[rows], tokens=True, neurons=False, directions=directions)
            _fill_from(scores[rows], factors, readout, texts, constants)
            cosine[rows] = _cosine(factors.embedding.to(texts), texts)
            del factors  # Not to be held while the next run's are made.
        return scores, cosine


def _of_contributions(
    model: ImageModel, images: Float[Tensor, "b 3 height width"], texts: Float[Tensor, "t e"], constants: Constants
) -> tuple[Float[Tensor, "b l h n t"], Float[Tensor, "b t"]]:
    # What a hook at hook_z changes is not in pattern and values: contributions know it, and refuse what has no tokens.
    own = decompose_images(model, images, tokens=True).normalized().with_constants(constants)
    return own.towards(texts, per_token=True), _cosine(own.embedding.to(texts), texts)


@full_precision()
def _cosine(embeddings: Float[Tensor, "b e"], texts: Float[Tensor, "t e"]) -> Float[Tensor, "b t"]:
    return equations.cosines(embeddings, texts)


@full_precision()
def _fill_from(
    scores: Float[Tensor, "b l h n t"],
    factors: Factors,
    readout: Readout,
    texts: Float[Tensor, "t e"],
    constants: Constants,
) -> None:
    read = {name: value.to(scores.dtype) for name, value in factors.read.items()}
    norm = factors.embedding.to(scores.dtype).norm(dim=-1)[:, None, None]
    omega = readout.pooling.omega(read)
    for layer, towards in enumerate(factors.v):
        attended = equations.effective_attention(omega / norm, factors.pattern[layer]().to(scores.dtype))
        scores[:, layer] = equations.attended_towards(attended, towards)
    if constants == "shared":
        weights = share_weights(readout, read, omega, factors) / norm
        share = equations.by_layer(weights, equations.towards(readout.share_directions, texts))
        scores += share[:, :, None, None] / scores.shape[3]
