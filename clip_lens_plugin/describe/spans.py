"""TextSpan: which texts span what a head writes, found on its moments alone.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, Algorithm 1. There a head's contributions C [n, e] and the
texts, projected on C's row space, are searched greedily for the text along which C varies most, and that text's
direction is removed from both. C enters only through its covariance, which lives in the k coordinates of the head,
so the cost does not depend on n or e.

What the authors' script does (``compute_text_set_projection.py`` of github.com/yossigandelsman/clip_prs), as facts: it
takes the singular value decomposition of a head's contributions [n, e] as they are, their constants shared out;
projects the texts on the first ``rank`` right singular vectors; only then removes the mean over images; and picks the
text along which the rest varies most, removing its direction from contributions and texts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_choice, checked_heads, checked_number
from clip_lens_plugin.decomposition.constants import Constants, GivenConstants, checked_constants
from clip_lens_plugin.decomposition.given_data import data_of
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.describe.frames import HeadFrame
from clip_lens_plugin.layers.config import HookedCLIPConfig
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.shown import Shown
from clip_lens_plugin.statistics.moments import LATE_LAYERS as LATE_LAYERS
from clip_lens_plugin.statistics.moments import Moments, late_layers
from clip_lens_plugin.texts.pool import TextPool

Heads = Literal["late", "all"] | Iterable[tuple[int, int]]

MOST_SHOWN = 6
"""Heads in the words of a result."""

MOST_NAMED = 4
"""Heads in a message."""


@dataclass(frozen=True)
class HeadSpan(Shown):
    """The texts that TextSpan picked for one head, best first.

    Attributes:
        layer, head: which head.
        texts: m texts; fewer than asked for if they use up what the head writes, none if it writes the same for all.
        indices: their positions in the pool.
        explained_variance: after each pick, the share of the head's total variance that the picks so far
            explain [m], from 0 to 1.
        total_variance: trace of the covariance of the head's contributions, in squared units of the
            contributions; 0 if they differ by rounding alone.
        constants: of the contributions that the texts describe, as for :class:`TextSpanResult`.
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
    constants: Constants = "separate"

    @classmethod
    def of_texts(cls, layer: int, head: int, texts: list[str]) -> HeadSpan:
        """Texts that were asked about a head, and not picked for it: what they explain is not known (NaN)."""
        nothing = [math.nan] * len(texts)
        return cls(layer, head, texts, list(range(len(texts))), nothing, math.nan, torch.empty(0, 0))

    def to_dataframe(self) -> pd.DataFrame:
        """One row per text, see :meth:`TextSpanResult.to_dataframe`."""
        rows = zip(self.texts, self.explained_variance, strict=True)
        found = [(self.layer, self.head, rank, text, share) for rank, (text, share) in enumerate(rows, start=1)]
        return pd.DataFrame(found, columns=["layer", "head", "rank", "text", "explained_variance"])

    def __repr__(self) -> str:
        rest = f", and {len(self.texts) - 3} more" if len(self.texts) > 3 else ""
        explained = f"; they explain {self.explained_variance[-1]:.1%} of its variance" if self.texts else ""
        listed = ", ".join(map(repr, self.texts[:3])) or "no text"
        return f"HeadSpan(layer {self.layer}, head {self.head}: {listed}{rest}{explained})"


class TextSpanResult(Shown):
    """``result[layer, head]`` for each head that was asked for; in a notebook it draws itself.

    Attributes:
        constants: "separate" or "shared": of the contributions that the texts describe.
    """

    def __init__(
        self,
        spans: Sequence[HeadSpan],
        n_layers: int,
        constants: Constants = "separate",
        n_heads: int | None = None,
    ) -> None:
        self._spans = {(span.layer, span.head): span for span in spans}
        self._shape = n_layers, n_heads or 1 + max((span.head for span in spans), default=0)
        self.constants: Constants = constants

    @property
    def heads(self) -> list[tuple[int, int]]:
        """(layer, head) of each head, in the order asked for."""
        return list(self._spans)

    def __getitem__(self, key: tuple[int, int]) -> HeadSpan:
        layer, head = checked_heads([key], *self._shape)[0]
        if (layer, head) not in self._spans:
            some = ", ".join(map(str, self.heads[:MOST_NAMED])) + (", ..." if len(self) > MOST_NAMED else "")
            raise KeyError(
                f"TextSpan was not run on layer {layer}, head {head}; it has {len(self)} (layer, head) pairs: {some}"
            )
        return self._spans[layer, head]

    def __iter__(self) -> Iterator[HeadSpan]:
        return iter(self._spans.values())

    def __len__(self) -> int:
        return len(self._spans)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per pick: layer, head, rank (from 1), text, explained_variance (cumulative share)."""
        empty = pd.DataFrame(columns=["layer", "head", "rank", "text", "explained_variance"])
        found = [span.to_dataframe() for span in self if span.texts]
        return pd.concat(found, ignore_index=True) if found else empty

    def __repr__(self) -> str:
        shown = "".join(f"\n  {span!r}" for span in list(self)[:MOST_SHOWN])
        rest = f"\n  and {len(self) - MOST_SHOWN} more heads" if len(self) > MOST_SHOWN else ""
        return f"TextSpanResult(heads={len(self)}, constants={self.constants!r}){shown}{rest}"


@takes_bridges
def text_span(
    model: HookedCLIP,
    data: Any,
    texts: TextPool | Sequence[str],
    n_directions: int = 60,
    heads: Heads = "late",
    text_embeddings: Float[Tensor, "t e"] | None = None,
    *,
    constants: GivenConstants | None = None,
    rank: int | None = None,
) -> TextSpanResult:
    """Describes what heads write by texts (Algorithm 1).

    What all images share, but for rounding, is no variance: a head without any has no texts, with a warning.

    The lists that the paper published come of its script, which differs from Algorithm 1 in two settings: the constants
    are shared out over the heads (moments of ``decompose(..., constants="shared")``), and texts are projected on the
    first ``rank`` right singular vectors of the contributions, their mean included. It keeps 80, of which only as many
    are data as a head has coordinates (its width and three, without an attention pool); the others are rounding errors,
    which change its picks.

    Args:
        model: gives M_{l,h} and the texts' embeddings.
        data: what the heads wrote: :class:`Moments`; or contributions, a store or its path, or images (their path, a
            folder's, pictures or pixels), in cosine units then.
        texts: the pool to pick from, its embeddings cached on disk; or texts.
        n_directions: m, at most this many texts for a head.
        heads: "late" (the last :data:`LATE_LAYERS` layers), "all", or (layer, head) pairs; negative numbers count from
            the end.
        text_embeddings: unit embeddings of ``texts``, to use instead of the model's own.
        constants: those that the moments should have; others are refused. Not checked if not given.
        rank: number of principal axes of E[c cᵀ] to project texts on; all that are data if not given. A rank that is
            greater than that of a head's data is cut to it, with a warning.

    Raises:
        ValueError: if ``n_directions`` or ``rank`` is less than 1, there are fewer than two images, there is no text or
            head, embeddings are not finite unit vectors or not of the texts, the moments are of another model, or their
            constants are not those asked for, or they are of some layers alone and another one was asked for.
        IndexError: if there is no such head.
    """
    readout = Readout.of(model)
    if isinstance(data, Moments):
        moments = data
    else:
        heads = _chosen(heads, model.cfg)
        moments = Moments.of(data_of(data, model), {layer for layer, _ in heads})
    _refuse_other_moments(readout, moments, constants)
    n_directions = checked_number("n_directions", n_directions)
    rank = None if rank is None else checked_number("rank", rank)
    chosen = _chosen(heads, model.cfg)
    _refuse_left_out(moments, chosen)
    pool = texts if isinstance(texts, TextPool) else TextPool.from_strings(texts)
    embeddings = pool.embed(model) if text_embeddings is None else text_embeddings
    if len(embeddings) != len(pool):
        raise ValueError(f"{len(pool)} texts need as many embeddings, got {len(embeddings)}.")
    readout.checked_texts(embeddings)
    columns = embeddings.detach().double().to(readout.P.device)
    spans, ranks, constant = [], [], []
    for layer, head in chosen:
        frame = HeadFrame.of(readout, moments, layer, head)
        found = frame.picked(columns, n_directions, rank)
        ranks.append(frame.rank)
        if found.total == 0.0:
            constant.append((layer, head))
        names = [pool.texts[i] for i in found.indices]
        about = (names, found.indices, found.explained, found.total, found.directions)
        spans.append(HeadSpan(layer, head, *about, moments.constants))
    _warn_of_constant(constant, moments.n)
    _warn_of_cut(ranks, rank)
    return TextSpanResult(spans, model.cfg.n_layers, moments.constants, model.cfg.n_heads)


def _refuse_other_moments(readout: Readout, moments: Moments, constants: GivenConstants | None) -> None:
    asked = moments.constants if constants is None else checked_constants(constants)
    if asked != moments.constants:
        raise ValueError(
            f"The moments are of contributions with constants={moments.constants!r}, but constants={asked!r} was asked "
            f"for. Decompose the images so: Moments.from_contributions(model.decompose(images, constants={asked!r}))."
        )
    shape = (len(readout.W_O), readout.n_heads, readout.n_coordinates(moments.constants))
    if tuple(moments.sum_y.shape) != shape:
        raise ValueError(
            f"The moments are of a model with [layers, heads, coordinates] = {list(moments.sum_y.shape)}, but "
            f"{readout.model.cfg.model_name} has {list(shape)}. Collect them with this model."
        )
    if moments.n < 2:
        raise ValueError(f"TextSpan needs the moments of at least two images, got {moments.n}.")


def _refuse_left_out(moments: Moments, heads: list[tuple[int, int]]) -> None:
    """Before texts are embedded, which takes long."""
    for layer in dict.fromkeys(layer for layer, _ in heads):
        moments.refuse_left_out(layer)


def _warn_of_constant(heads: list[tuple[int, int]], n: int) -> None:
    if heads:
        named = ", ".join(f"layer {layer}, head {head}" for layer, head in heads[:3])
        rest = f" and {len(heads) - 3} more" if len(heads) > 3 else ""
        warnings.warn(
            f"What the following heads write is the same for all {n} images, but for rounding, so no text describes "
            f"how it varies: {named}{rest}.",
            stacklevel=3,
        )


def _warn_of_cut(ranks: list[int], rank: int | None) -> None:
    cut = [each for each in ranks if rank is not None and each < rank]
    if cut:
        kept = str(min(cut)) if min(cut) == max(cut) else f"{min(cut)} to {max(cut)}"
        warnings.warn(
            f"rank={rank} was cut to {kept} for {len(cut)} of {len(ranks)} heads: that is the rank of what they write, "
            f"and beyond it are rounding errors.",
            stacklevel=3,
        )


def _chosen(heads: Heads, cfg: HookedCLIPConfig) -> list[tuple[int, int]]:
    if isinstance(heads, str):
        checked_choice("heads", heads, ("late", "all"))
        layers = range(cfg.n_layers) if heads == "all" else late_layers(cfg.n_layers)
        return [(l, h) for l in layers for h in range(cfg.n_heads)]
    return checked_heads(heads, cfg.n_layers, cfg.n_heads)
