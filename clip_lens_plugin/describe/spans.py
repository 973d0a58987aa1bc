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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_heads, checked_number
from clip_lens_plugin.decomposition.constants import Constants, GivenConstants
from clip_lens_plugin.describe.asked import Heads, asked_heads, warn_of_constant
from clip_lens_plugin.describe.embedded import embedded
from clip_lens_plugin.describe.frames import HeadFrame, Picked
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.shown import Shown
from clip_lens_plugin.statistics.moments import LATE_LAYERS as LATE_LAYERS
from clip_lens_plugin.texts.pool import TextPool
from clip_lens_plugin.warned import warn

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
            first j span the projections of the first j texts onto what the head writes.
        method: that picked them, "TextSpan" or "SOMP".
        centred: whether that is the variance over the images, or the mean square.
        projected_norms: of SOMP, how much of each text's unit embedding lies in the span of what the head writes [m],
            from 0 to 1; None of others.
    """

    layer: int
    head: int
    texts: list[str]
    indices: list[int]
    explained_variance: list[float]
    total_variance: float
    directions: Float[Tensor, "m e"]
    constants: Constants = "separate"
    method: str = "TextSpan"
    centred: bool = True
    projected_norms: list[float] | None = None

    @classmethod
    def of_picks(cls, layer: int, head: int, picked: Picked, texts: Sequence[str], constants: Constants) -> HeadSpan:
        """Texts that were picked out of all that there are."""
        names = [texts[index] for index in picked.indices]
        about = (names, picked.indices, picked.explained, picked.total, picked.directions)
        return cls(layer, head, *about, constants)

    @classmethod
    def of_texts(cls, layer: int, head: int, texts: list[str]) -> HeadSpan:
        """Texts that were asked about a head, and not picked for it: what they explain is not known (NaN)."""
        nothing = [math.nan] * len(texts)
        return cls(layer, head, texts, list(range(len(texts))), nothing, math.nan, torch.empty(0, 0))

    def to_dataframe(self) -> pd.DataFrame:
        """One row per text, see :meth:`TextSpanResult.to_dataframe`."""
        rows = zip(self.texts, self.explained_variance, strict=True)
        found = [(self.layer, self.head, rank, text, share) for rank, (text, share) in enumerate(rows, start=1)]
        table = pd.DataFrame(found, columns=["layer", "head", "rank", "text", "explained_variance"])
        return table if self.projected_norms is None else table.assign(projected_norm=self.projected_norms)

    def __repr__(self) -> str:
        rest = f", and {len(self.texts) - 3} more" if len(self.texts) > 3 else ""
        whole = "variance" if self.centred else "mean square"
        explained = f"; they explain {self.explained_variance[-1]:.1%} of its {whole}" if self.texts else ""
        listed = ", ".join(map(repr, self.texts[:3])) or "no text"
        by = "" if self.method == "TextSpan" else f", by {self.method}"
        return f"HeadSpan(layer {self.layer}, head {self.head}{by}: {listed}{rest}{explained})"


class TextSpanResult(Shown):
    """``result[layer, head]`` for each head that was asked for; in a notebook it draws itself.

    Attributes:
        constants: "separate" or "shared": of the contributions that the texts describe.
        method: that picked the texts, "TextSpan" or "SOMP".
    """

    def __init__(
        self,
        spans: Sequence[HeadSpan],
        n_layers: int,
        constants: Constants = "separate",
        n_heads: int | None = None,
        method: str = "TextSpan",
    ) -> None:
        self._spans = {(span.layer, span.head): span for span in spans}
        self._shape = n_layers, n_heads or 1 + max((span.head for span in spans), default=0)
        self.constants: Constants = constants
        self.method = method

    @property
    def heads(self) -> list[tuple[int, int]]:
        """(layer, head) of each head, in the order asked for."""
        return list(self._spans)

    def __getitem__(self, key: tuple[int, int]) -> HeadSpan:
        layer, head = checked_heads([key], *self._shape)[0]
        if (layer, head) not in self._spans:
            some = ", ".join(map(str, self.heads[:MOST_NAMED])) + (", ..." if len(self) > MOST_NAMED else "")
            raise KeyError(
                f"{self.method} was not run on layer {layer}, head {head}; it has {len(self)} (layer, head) pairs: "
                f"{some}"
            )
        return self._spans[layer, head]

    def __iter__(self) -> Iterator[HeadSpan]:
        return iter(self._spans.values())

    def __len__(self) -> int:
        return len(self._spans)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per pick: layer, head, rank (from 1), text, explained_variance (cumulative share).

        Of SOMP also projected_norm, see :class:`HeadSpan`.
        """
        empty = pd.DataFrame(columns=["layer", "head", "rank", "text", "explained_variance"])
        found = [span.to_dataframe() for span in self if span.texts]
        return pd.concat(found, ignore_index=True) if found else empty

    def __repr__(self) -> str:
        shown = "".join(f"\n  {span!r}" for span in list(self)[:MOST_SHOWN])
        rest = f"\n  and {len(self) - MOST_SHOWN} more heads" if len(self) > MOST_SHOWN else ""
        by = "" if self.method == "TextSpan" else f"method={self.method!r}, "
        return f"TextSpanResult({by}heads={len(self)}, constants={self.constants!r}){shown}{rest}"


@takes_bridges
def text_span(
    model: ImageTextModel,
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
    asked = asked_heads(model, data, heads, constants)
    n_directions = checked_number("n_directions", n_directions)
    rank = None if rank is None else checked_number("rank", rank)
    pool, columns = embedded(model, asked.readout, texts, text_embeddings)
    moments = asked.moments
    spans, ranks = [], []
    for layer, head in asked.heads:
        frame = HeadFrame.of(asked.readout, moments, layer, head)
        found = frame.picked(columns, n_directions, rank)
        ranks.append(frame.rank)
        spans.append(HeadSpan.of_picks(layer, head, found, pool.texts, moments.constants))
    warn_of_constant([(span.layer, span.head) for span in spans if span.total_variance == 0.0], moments.n)
    _warn_of_cut(ranks, rank)
    return TextSpanResult(spans, model.cfg.n_layers, moments.constants, model.cfg.n_heads)


def _warn_of_cut(ranks: list[int], rank: int | None) -> None:
    cut = [each for each in ranks if rank is not None and each < rank]
    if cut:
        kept = str(min(cut)) if min(cut) == max(cut) else f"{min(cut)} to {max(cut)}"
        warn(
            f"rank={rank} was cut to {kept} for {len(cut)} of {len(ranks)} heads: that is the rank of what they write, "
            f"and beyond it are rounding errors."
        )
