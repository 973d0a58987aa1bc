"""Images, and directions of the joint space, as sums of few words: sparse codes over a vocabulary.

    minimum over w of  ½ ‖w C − z‖² + λ Σ_j |w_j|

The rows of C are the vocabulary's embeddings, and z is an image's embedding, each less a mean and of unit length again.
Images and texts lie in two narrow cones, so that without this the code would say where the cones are. An image's
weights are not negative; a direction, which has no mean, is coded with words of both signs.

Source: Bhalla, Oesterling, Srinivas, Calmon and Lakkaraju, "Interpreting CLIP with Sparse Linear Concept Embeddings
(SpLiCE)", NeurIPS 2024. The minimum is found as :mod:`clip_lens_plugin.numerics.lasso` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number, checked_texts
from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.analysed import Analysed
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.describe.embedded import EmbeddedTexts, embedded
from clip_lens_plugin.describe.sparse_result import SparseText
from clip_lens_plugin.hints import given_as, hint
from clip_lens_plugin.interactions.means import image_means
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.numerics.lasso import sparse_codes
from clip_lens_plugin.numerics.unit_vectors import UNIT_TOLERANCE, checked_finite
from clip_lens_plugin.texts.pool import TextPool

PENALTY = 0.25
"""λ if none is given, as in the paper's examples."""

NOTHING = 1e-6
"""Length, of unit vectors less their mean, that is rounding."""

Vectors = Float[Tensor, "b e"]


@takes_bridges
@torch.no_grad()
def sparse_text(
    model: ImageTextModel,
    vectors: Any,
    pool: TextPool | Sequence[str],
    penalty: float | None = None,
    *,
    k: int | None = None,
    mean: Any = None,
    directions: bool = False,
    names: Sequence[str] | None = None,
    text_embeddings: Float[Tensor, "t e"] | None = None,
) -> SparseText:
    """The words of a vocabulary whose sum is nearest to each vector, few of them, and their weights.

    Texts are centred by the vocabulary's own mean. Images are centred by a mean of images; directions are not centred,
    and their words have both signs.

    Args:
        model: gives the texts' embeddings, and those of images.
        vectors: images: a store or its path, contributions, pictures, the path of one or of a folder, pixels, or
            embeddings [b, e] of any length. With ``directions`` a tensor [b, e] alone: axes of heads or neurons,
            differences of two means.
        pool: the vocabulary, two or more texts; its embeddings are cached on disk.
        penalty: λ; greater for fewer words. :data:`PENALTY` if neither it nor ``k`` is given.
        k: so many words for each vector and no penalty: matching pursuit, which takes up the word that the rest lies
            along most, and weighs all anew. Fewer where no other word brings it nearer.
        mean: of the unit embeddings of images: a tensor [e]; or a store or its path, contributions, or images, of which
            it is taken. If not given, that of ``vectors`` themselves, which have to be two images or more and not
            embeddings alone.
        directions: whether ``vectors`` are directions of the joint space.
        names: of the vectors; those of the images if not given.
        text_embeddings: unit embeddings of the pool, to use instead of the model's own.

    Raises:
        ValueError: if vectors are not [b, e], not finite, or zero, or an image is what its mean is; if the mean is not
            known, or is given of directions; if there are fewer than two texts, or one is what their mean is; if λ is
            not greater than 0, ``k`` is less than 1, or both are given.
        NotSolvedError: a ValueError, if a minimum was not found to 1e-6; see :mod:`clip_lens_plugin.numerics.lasso`.
    """
    penalty, k = checked_aim(penalty, k)
    if directions and mean is not None:
        raise ValueError("Directions are not centred: give mean= of images alone, or leave out directions=True.")
    readout = Readout.of(model)
    data = None if directions or _are_embeddings(vectors) else data_of(vectors, model)
    rows = checked_vectors(vectors if data is None else _embeddings(data), readout)
    if directions:
        centre, mean_of = None, ""
    elif mean is None and data is not None and len(data) > 1:
        centre, mean_of = torch.nn.functional.normalize(rows, dim=1).mean(0), f"the mean of these {len(rows):,} images"
    else:
        centre, mean_of = _centre(mean, data, model, readout)
    texts = embedded(model, readout, pool, text_embeddings)
    return coded(rows, texts, penalty, k, _names(names, data, len(rows), directions), centre, mean_of, data)


def coded(
    rows: Float[Tensor, "b e"],
    texts: EmbeddedTexts,
    penalty: float,
    k: int | None,
    names: tuple[str, ...],
    centre: Float[Tensor, " e"] | None = None,
    mean_of: str = "",
    data: Data | None = None,
) -> SparseText:
    """The codes of vectors that are checked: of images where there is a mean to centre them by, of directions else.

    Args:
        rows: float64.
        texts: the vocabulary.
        penalty, k: see :func:`sparse_text`.
        names: of the rows.
        centre: mean of unit embeddings.
        mean_of: what the mean is of.
        data: the images.

    Raises:
        ValueError, NotSolvedError: as :func:`sparse_text`.
    """
    atoms, text_mean = _atoms(texts)
    _refuse_zero(rows, names, "is zero, and has no direction")
    vectors, lengths = rows, rows.norm(dim=1)
    if centre is not None:
        vectors = rows / lengths[:, None] - centre
        lengths = vectors.norm(dim=1)
        _refuse_zero(vectors, names, "is the mean that it is centred by: give mean= of more images", NOTHING)
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    found = sparse_codes(vectors, atoms, penalty, centre is None, k)
    near = vectors - found.residual
    return SparseText(
        names=names,
        texts=tuple(texts.pool.texts),
        indices=found.indices.cpu(),
        weights=found.weights.cpu(),
        objective=found.objective.cpu(),
        kkt=found.violation.cpu(),
        cosine=(equations.along(near, vectors) / near.norm(dim=1)).cpu(),
        lengths=lengths.cpu(),
        penalty=penalty,
        k=k,
        text_mean=text_mean.cpu(),
        image_mean=None if centre is None else centre.cpu(),
        mean_of=mean_of,
        data=data,
    )


def checked_vectors(given: Any, readout: Readout) -> Vectors:
    """The vectors in float64 on the readout's device.

    Raises:
        ValueError: if they are no tensor [b, e] of this joint space, none, or not finite.
    """
    width = readout.P.shape[1]
    shape = list(given.shape) if isinstance(given, Tensor) else f"a {type(given).__name__}"
    if not isinstance(given, Tensor) or given.ndim != 2 or given.shape[1] != width or not given.is_floating_point():
        raise ValueError(
            f"Vectors must be a tensor of floating-point numbers of shape [vectors, {width}], got {shape}"
            f"{f' of {given.dtype}' if isinstance(given, Tensor) else ''}. One alone is given as vector[None]."
        )
    if not len(given):
        raise ValueError("No vector was given: give one or more.")
    bad = (~given.isfinite()).any(1).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"The vectors at positions {bad[:5]} hold NaN or infinite values.")
    return given.detach().double().to(readout.P.device)


def checked_aim(penalty: float | None, k: int | None) -> tuple[float, int | None]:
    """λ, 0 where a number of words is asked for, and that number.

    Raises:
        ValueError: if both are given, λ is not greater than 0, or the number is less than 1.
    """
    if k is not None and penalty is not None:
        raise ValueError(f"Give {given_as('penalty')} or a number of words, {given_as('k')}, not both.")
    if k is not None:
        return 0.0, checked_number("k", k)
    penalty = PENALTY if penalty is None else penalty
    if not isinstance(penalty, Real) or isinstance(penalty, bool) or not 0 < penalty < float("inf"):
        raise ValueError(f"{given_as('penalty')} must be a number greater than 0, such as {PENALTY}, got {penalty!r}.")
    return float(penalty), None


def _are_embeddings(given: Any) -> bool:
    return isinstance(given, Tensor) and given.ndim < 3


def _embeddings(data: Data) -> Float[Tensor, "b e"]:
    found = [data.select(rows).embedding for rows in data.blocks()]
    if not found:
        raise ValueError("There is no image to code.")
    return torch.cat(found)


def _centre(mean: Any, data: Data | None, model: ImageTextModel, readout: Readout) -> tuple[Float[Tensor, " e"], str]:
    """The mean that was given for images to be centred by, and what it is of."""
    if isinstance(mean, Tensor) and mean.ndim < 3:
        width = readout.P.shape[1]
        if mean.shape != (width,):
            raise ValueError(f"mean must be of shape [{width}], as the embedding, got {list(mean.shape)}.")
        checked_finite(mean[None], "mean", "finite")
        length = float(mean.double().norm())
        if length > 1 + UNIT_TOLERANCE:
            raise ValueError(
                f"mean must be of unit embeddings, and so be no longer than 1, got a length of {length:.4g}: "
                f"torch.nn.functional.normalize(embeddings, dim=-1).mean(0)."
            )
        return mean.detach().double().to(readout.P.device), "a mean that was given"
    if mean is None:
        what = "embeddings alone" if data is None else "one image"
        python = (
            "mean= of what collect wrote, contributions of more images, a folder, or the mean of the unit embeddings "
            "[e]. Directions, which are not centred, are coded with directions=True"
        )
        command = "--mean STORE of what collect wrote, or --mean FOLDER of pictures"
        raise ValueError(
            f"Images are centred by a mean of images, and {what} {'do' if data is None else 'does'} not say it: give "
            f"{hint(python, command)}."
        )
    found = image_means(mean, model)
    return found.embedding.double().to(readout.P.device), found.of[:1].lower() + found.of[1:]


def _names(given: Sequence[str] | None, data: Data | None, n: int, directions: bool) -> tuple[str, ...]:
    if given is not None:
        names = tuple(checked_texts("names", given))
        if len(names) != n:
            raise ValueError(f"{n} vectors need as many names, got {len(names)}.")
        return names
    known = data.names if isinstance(data, Analysed) else None
    return known if known is not None else tuple(f"{'direction' if directions else 'image'} {row}" for row in range(n))


def _atoms(texts: EmbeddedTexts) -> tuple[Float[Tensor, "v e"], Float[Tensor, " e"]]:
    """The vocabulary, centred and of unit length, and its mean."""
    if len(texts.pool) < 2:
        raise ValueError(f"A vocabulary is centred by its own mean, which takes two texts, got {len(texts.pool)}.")
    mean = texts.embeddings.mean(0)
    centred = texts.embeddings - mean
    _refuse_zero(centred, texts.pool.texts, "is the mean of the vocabulary: leave it out, or add other texts", NOTHING)
    return centred / centred.norm(dim=1, keepdim=True), mean


def _refuse_zero(rows: Float[Tensor, "n e"], names: Sequence[str], why: str, least: float = 0.0) -> None:
    zero = (rows.norm(dim=1) <= least).nonzero().flatten().tolist()
    if zero:
        more = f" (and {len(zero) - 1} more)" if len(zero) > 1 else ""
        raise ValueError(f"{names[zero[0]]!r:.80}{more} {why}.")
