"""TextSpan: which texts span what a head writes, found on its moments alone.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, Algorithm 1. There a head's contributions C [n, e] and the
texts, projected on C's row space, are searched greedily for the text along which C varies most, and that text's
direction is removed from both. C enters only through its covariance, which lives in the k coordinates of the head,
so the cost does not depend on n or e.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.bridge.model import CLIPLike, as_hooked_clip
from clip_lens_plugin.moments import Moments
from clip_lens_plugin.readout import Readout
from clip_lens_plugin.texts.pool import TextPool

if TYPE_CHECKING:
    pass

Heads = Literal["late", "all"] | Iterable[tuple[int, int]]
LATE_LAYERS = 4
"""Layers that "late" means: the last four, as in the paper."""

SMALLEST = 1e-12
"""Relative size, of squared lengths and variances, below which a direction is used up."""


@dataclass(frozen=True)
class HeadSpan:
    """The texts that TextSpan picked for one head, best first.

    Attributes:
        layer, head: which head.
        texts: m texts; fewer than asked for if they use up what the head writes.
        indices: their positions in the pool.
        explained_variance: after each pick, the share of the head's total variance that the picks so far
            explain [m], from 0 to 1.
        total_variance: trace of the covariance of the head's contributions, in squared units of the
            contributions.
        directions: orthonormal directions in the joint space, in which the picks are spelled [m, e], float64: the
            first j span what the first j texts say of what the head writes.
    """

    layer: int
    head: int
    texts: list[str]
    indices: list[int]
    explained_variance: list[float]
    total_variance: float
    directions: Float[Tensor, "m e"]


class TextSpanResult:
    """``result[layer, head]`` for each head that was asked for."""

    def __init__(self, spans: Sequence[HeadSpan], n_layers: int) -> None:
        self._spans = {(span.layer, span.head): span for span in spans}
        self._n_layers = n_layers

    @property
    def heads(self) -> list[tuple[int, int]]:
        """(layer, head) of each head, in the order asked for."""
        return list(self._spans)

    def __getitem__(self, key: tuple[int, int]) -> HeadSpan:
        layer, head = key
        layer = layer + self._n_layers if layer < 0 else layer
        if (layer, head) not in self._spans:
            raise KeyError(f"TextSpan was not run on layer {layer}, head {head}; it has {self.heads}.")
        return self._spans[layer, head]

    def __iter__(self) -> Iterator[HeadSpan]:
        return iter(self._spans.values())

    def __len__(self) -> int:
        return len(self._spans)

    def to_dataframe(self) -> pd.DataFrame:
        """A row a pick: layer, head, rank (from 1), text, explained_variance (cumulative share)."""
        rows = [
            {"layer": span.layer, "head": span.head, "rank": i + 1, "text": text, "explained_variance": share}
            for span in self
            for i, (text, share) in enumerate(zip(span.texts, span.explained_variance, strict=True))
        ]
        return pd.DataFrame(rows, columns=["layer", "head", "rank", "text", "explained_variance"])


def text_span(
    model: CLIPLike,
    moments: Moments,
    texts: TextPool | Sequence[str],
    n_directions: int = 60,
    heads: Heads = "late",
    text_embeddings: Float[Tensor, "t e"] | None = None,
) -> TextSpanResult:
    """Describes what heads write by texts (Algorithm 1).

    Args:
        model: gives M_{l,h} and the texts' embeddings.
        moments: of the heads over a data set.
        texts: the pool to pick from, its embeddings cached on disk; or texts.
        n_directions: m, at most this many texts a head.
        heads: "late" (the last :data:`LATE_LAYERS` layers), "all", or (layer, head) pairs.
        text_embeddings: unit embeddings of ``texts``, to use instead of the model's own.

    Raises:
        ValueError: if ``n_directions`` is less than 1, there are fewer than two images, there is no text, the moments
            are of another model, or the embeddings are not finite unit vectors of its joint space.
        IndexError: if there is no such head.
    """
    model = as_hooked_clip(model)
    shape = (model.cfg.n_layers, model.cfg.n_heads, model.pooling.n_heads * model.cfg.d_head)
    if tuple(moments.sum_y.shape) != shape:
        raise ValueError(
            f"The moments are of a model with [layers, heads, coordinates] = {list(moments.sum_y.shape)}, but "
            f"{model.cfg.model_name} has {list(shape)}. Collect them with this model."
        )
    if moments.n < 2:
        raise ValueError(f"TextSpan needs the moments of at least two images, got {moments.n}.")
    if n_directions < 1:
        raise ValueError(f"n_directions must be at least 1, got {n_directions}.")
    pool = texts if isinstance(texts, TextPool) else TextPool.from_strings(texts)
    embeddings = pool.embed(model) if text_embeddings is None else text_embeddings
    if len(embeddings) != len(pool):
        raise ValueError(f"{len(pool)} texts need as many embeddings, got {len(embeddings)}.")
    readout = Readout.of(model)
    readout.checked_texts(embeddings)
    columns = embeddings.detach().double().to(readout.P.device)
    second = (moments.sum_yy / moments.n).to(columns.device)
    mean = moments.mean.to(columns.device)
    spans = []
    for layer, head in _chosen(heads, *shape[:2]):
        head_map = readout.head_map(layer, head).detach().double()
        frame, projected, axes = _orthonormal(head_map, second[layer, head], columns)
        x_mean = mean[layer, head] @ frame
        covariance = frame.T @ second[layer, head] @ frame - torch.outer(x_mean, x_mean)
        indices, explained, total, picked = _greedy(covariance, projected, n_directions)
        names = [pool.texts[i] for i in indices]
        spans.append(HeadSpan(layer, head, names, indices, explained, total, picked @ axes.T))
    return TextSpanResult(spans, model.cfg.n_layers)


def _chosen(heads: Heads, n_layers: int, n_heads: int) -> list[tuple[int, int]]:
    if isinstance(heads, str):
        if heads not in ("late", "all"):
            raise ValueError(f"heads must be 'late', 'all' or (layer, head) pairs, got {heads!r}.")
        first = 0 if heads == "all" else max(0, n_layers - LATE_LAYERS)
        return [(l, h) for l in range(first, n_layers) for h in range(n_heads)]
    chosen = []
    for layer, head in heads:
        if not (-n_layers <= layer < n_layers and 0 <= head < n_heads):
            raise IndexError(
                f"There is no layer {layer}, head {head}: the model has layers 0 to {n_layers - 1} and heads 0 to "
                f"{n_heads - 1}."
            )
        chosen.append((layer % n_layers, head))
    return chosen


def _orthonormal(
    head_map: Float[Tensor, "k e"],
    second_moment: Float[Tensor, "k k"],
    texts: Float[Tensor, "t e"],
) -> tuple[Float[Tensor, "k r"], Float[Tensor, "t r"], Float[Tensor, "e r"]]:
    """The map from y to orthonormal coordinates of what the head writes, the texts' projections on it, and its axes.

    With M = U S Vᵀ, x = y U S are orthonormal coordinates of the head's span. The paper projects on the row space
    of the data, which is smaller where the images are few or the head does not use all it has: so the coordinates
    are turned to the principal axes of E[x xᵀ], and those without any data are dropped.
    """
    u, s, vt = torch.linalg.svd(head_map, full_matrices=False)
    to_span = u * s
    values, axes = torch.linalg.eigh(to_span.T @ second_moment @ to_span)
    used = axes[:, values > SMALLEST * values.max().clamp(min=0)]
    in_joint = vt.T @ used
    return to_span @ used, texts @ in_joint, in_joint


def _greedy(
    covariance: Float[Tensor, "r r"], residual: Float[Tensor, "t r"], n_directions: int
) -> tuple[list[int], list[float], float, Float[Tensor, "m r"]]:
    """Indices of the picked texts, cumulative share of the variance, total variance, the removed directions.

    The variance along text j is r_jᵀ Σ r_j. Removing a direction d from the texts leaves r_jᵀ (Q Σ Q) r_j with
    Q = I − d dᵀ; as the removed directions are orthonormal, it is enough to remove d from every r and keep Σ.
    """
    left = total = float(covariance.trace())
    smallest = SMALLEST * float(residual.square().sum(1).max()) if residual.numel() else 0.0
    picked: list[int] = []
    explained: list[float] = []
    removed = [residual[:0]]
    for _ in range(min(n_directions, residual.shape[1])):
        best = int(((residual @ covariance) * residual).sum(1).argmax())
        norm = residual[best].norm()
        if left <= SMALLEST * total or float(norm.square()) <= smallest:
            break
        direction = residual[best] / norm
        left -= float(direction @ covariance @ direction)
        residual = residual - torch.outer(residual @ direction, direction)
        picked.append(best)
        removed.append(direction[None])
        explained.append(1.0 - max(left, 0.0) / total)
    return picked, explained, total, torch.cat(removed)
