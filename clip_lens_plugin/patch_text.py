"""Patch-text maps: what each patch adds to an image's similarity to a text, through chosen heads.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, section 5 (joint decomposition) and equation 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.factors import factors_from_images
from clip_lens_plugin.readout import Readout

if TYPE_CHECKING:
    from clip_lens_plugin.hooked_clip import HookedCLIP


@dataclass(frozen=True)
class PatchTextMap:
    """Signed scores in cosine units; with ``class_token`` they sum to the chosen heads' score.

    Attributes:
        values: the contribution of each patch [b, t, rows, columns].
        class_token: the contribution of the class token as a source [b, t].
        texts: the texts.
    """

    values: Float[Tensor, "b t rows columns"]
    class_token: Float[Tensor, "b t"]
    texts: tuple[str, ...]

    @property
    def scores(self) -> Float[Tensor, "b t"]:
        """What the chosen heads add to the cosine similarity."""
        return self.values.sum((-2, -1)) + self.class_token


def patch_text_map(
    model: HookedCLIP,
    images: Float[Tensor, "b 3 height width"],
    texts: Sequence[str],
    heads: Sequence[tuple[int, int]] | None = None,
    batch_size: int = 16,
) -> PatchTextMap:
    """Runs the model and scores each patch against each text.

    Args:
        images: preprocessed images.
        texts: any texts.
        heads: (layer, head) pairs to sum over; all heads if not given.
        batch_size: images a run.

    Raises:
        ValueError: if there is no image, no text or no head, or the shape is wrong.
        IndexError: if there is no such head.
    """
    if isinstance(texts, str) or len(texts) == 0:
        raise ValueError(f"patch_text_map takes a list of one or more texts, got {texts!r}.")
    if len(images) == 0:
        raise ValueError("patch_text_map was given no images; give a tensor [b, 3, height, width] with b ≥ 1.")
    chosen = _head_mask(model, heads)
    embeddings = model.encode_text(texts)
    parts = []
    for start in range(0, len(images), batch_size):
        scores = token_scores(model, images[start : start + batch_size], embeddings)
        parts.append(torch.einsum("blhnt,lh->btn", scores, chosen.to(scores)))
    by_token = torch.cat(parts)
    return PatchTextMap(
        values=by_token[..., 1:].unflatten(-1, model.cfg.grid_size),
        class_token=by_token[..., 0],
        texts=tuple(texts),
    )


def token_scores(
    model: HookedCLIP,
    images: Float[Tensor, "b 3 height width"],
    text_embeddings: Float[Tensor, "t e"],
) -> Float[Tensor, "b l h n t"]:
    """c[b, l, h, i] · e_t / ‖M(I)‖ for every head and source token, in cosine units.

    The same numbers as ``model.decompose(images, tokens=True).normalized().towards(texts, per_token=True)``, but
    each layer's values are contracted with the texts while the model runs, so that neither they nor anything of
    width e is kept.
    """
    readout = Readout.of(model)
    with torch.no_grad():
        texts = readout.checked_texts(text_embeddings)
        directions = readout.directions(texts)
        factors = factors_from_images(model, images, tokens=True, neurons=False, directions=directions)
        omega = readout.pooling.omega(factors.scale.to(texts.dtype))
        omega = omega / factors.embedding.to(texts.dtype).norm(dim=-1, keepdim=True)
        by_layer = [
            torch.einsum("br,bhrn,bnht->bhnt", omega, pattern.to(texts.dtype), towards)
            for pattern, towards in zip(factors.pattern, factors.v, strict=True)
        ]
        return torch.stack(by_layer, dim=1)


def _head_mask(model: HookedCLIP, heads: Sequence[tuple[int, int]] | None) -> Float[Tensor, "l h"]:
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    if heads is None:
        return torch.ones(n_layers, n_heads)
    if len(heads) == 0:
        raise ValueError("heads must hold at least one (layer, head) pair, or be None for all heads.")
    mask = torch.zeros(n_layers, n_heads)
    for layer, head in heads:
        mask[model.cfg.checked_head(layer, head)] = 1.0
    return mask
