"""A head in words without any data: the singular vectors of its map from the stream to the joint space.

What a head writes of a token u, weighed by 1 and through head p of an attention pool, is ``u C diag(γ₁) W_V M_p`` of
the joint space, less constants: C and γ₁ are of the block's first LayerNorm. The right singular vectors of this map
are the directions in which the head writes most for tokens of the same length, the left ones what it reads for them.
The map has d rows and e columns, but no more than k dimensions: with ``C diag(γ₁) W_V = Q R`` and ``M = (Q' R')ᵀ`` its
singular values are those of ``R R'ᵀ``, k by k.

Source: the singular vectors of a head's weights, as Gentile, Dall'Asen, Tonini, Mancini, Vaquero and Ricci describe
CLIP's heads by them ("From Weights to Concepts", CVPR 2026), here with both LayerNorms and the projection folded in,
and coded by :mod:`clip_lens_plugin.describe.sparse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.describe.asked import Heads, chosen_heads
from clip_lens_plugin.describe.embedded import embedded
from clip_lens_plugin.describe.sparse import checked_aim, coded
from clip_lens_plugin.describe.sparse_result import SparseText
from clip_lens_plugin.higher_order.head_maps import HeadMaps
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.texts.pool import TextPool


@dataclass(frozen=True, kw_only=True, repr=False)
class HeadSingularTexts(SparseText):
    """The words of the directions in which heads write most: a row for each axis, as :class:`SparseText` has them.

    Attributes:
        heads: (layer, head) of each row.
        axes: its position among the head's singular vectors, the greatest first.
        singular_values: of each row [b].
        shares: of the sum of the squares of all singular values of the head [b].
        reads: left singular vectors, the directions of the normalised stream that it answers to, a part for each head
            of an attention pool [b, pd].
        writes: right singular vectors, the directions that are coded [b, e].
    """

    heads: tuple[tuple[int, int], ...]
    axes: tuple[int, ...]
    singular_values: Float[Tensor, " b"]
    shares: Float[Tensor, " b"]
    reads: Float[Tensor, "b pd"]
    writes: Float[Tensor, "b e"]

    def to_dataframe(self) -> pd.DataFrame:
        """One row per word: layer, head, axis, share (of the head's squared singular values), rank, text, weight."""
        table = super().to_dataframe()
        rows = table.pop("row").tolist()
        columns = {
            "layer": [self.heads[row][0] for row in rows],
            "head": [self.heads[row][1] for row in rows],
            "axis": [self.axes[row] for row in rows],
            "share": [float(self.shares[row]) for row in rows],
        }
        return pd.concat([pd.DataFrame(columns), table.drop(columns="name")], axis=1)


class SingularVectors(NamedTuple):
    """``map = reads diag(values) writes``, the greatest value first."""

    reads: Float[Tensor, "pd r"]
    values: Float[Tensor, " r"]
    writes: Float[Tensor, "r e"]


@takes_bridges
@torch.no_grad()
def head_singular_texts(
    model: ImageTextModel,
    pool: TextPool | Sequence[str],
    heads: Heads = "late",
    n_axes: int = 3,
    penalty: float | None = None,
    *,
    k: int | None = None,
    text_embeddings: Float[Tensor, "t e"] | None = None,
) -> HeadSingularTexts:
    """Heads by their weights alone: the words of the directions in which each writes most, of both signs.

    A singular vector has no sign of its own: the words with positive weights stand against those with negative ones.
    What tokens a head sees, and how much it attends to them, is not asked.

    Args:
        model: of the heads.
        pool: the vocabulary, two or more texts; its embeddings are cached on disk.
        heads: "late" (the last four layers), "all", or (layer, head) pairs.
        n_axes: at most this many directions of a head.
        penalty, k: see :func:`~clip_lens_plugin.describe.sparse.sparse_text`.
        text_embeddings: unit embeddings of the pool, to use instead of the model's own.

    Raises:
        ValueError: if ``n_axes`` or ``k`` is less than 1, λ is not greater than 0, there is no head, or as
            :func:`~clip_lens_plugin.describe.sparse.sparse_text` of the vocabulary.
        IndexError: if there is no such head.
    """
    penalty, k = checked_aim(penalty, k)
    n_axes = checked_number("n_axes", n_axes)
    chosen = chosen_heads(heads, model.cfg)
    readout = Readout.of(model)
    rows, kept, values, shares, reads, writes = [], [], [], [], [], []
    for layer, head in chosen:
        found = singular_vectors(readout, layer, head)
        n = min(n_axes, int((found.values > 0).sum()))
        rows += [(layer, head)] * n
        kept += range(n)
        values.append(found.values[:n])
        shares.append(found.values[:n].square() / found.values.square().sum())
        reads.append(found.reads[:, :n].T)
        writes.append(found.writes[:n])
    directions = torch.cat(writes)
    axes = zip(rows, kept, torch.cat(shares).tolist(), strict=True)
    names = tuple(f"layer {l}, head {h}, axis {axis} ({share:.0%})" for (l, h), axis, share in axes)
    codes = coded(directions, embedded(model, readout, pool, text_embeddings), penalty, k, names)
    return HeadSingularTexts(
        **{each.name: getattr(codes, each.name) for each in fields(codes)},
        heads=tuple(rows),
        axes=tuple(kept),
        singular_values=torch.cat(values).cpu(),
        shares=torch.cat(shares).cpu(),
        reads=torch.cat(reads).cpu(),
        writes=directions.cpu(),
    )


def singular_vectors(readout: Readout, layer: int, head: int) -> SingularVectors:
    """The singular vectors of a head's map, in float64, without building the map."""
    weights = HeadMaps.of(readout, layer, range(head, head + 1))
    to_span, reduced = torch.linalg.qr(weights.values[0].double())
    # Of an attention pool, what is read is told apart by the pool's head that it goes through.
    in_joint, small = torch.linalg.qr((reduced @ weights.joint[0].double()).flatten(0, 1).T)
    left, values, right = torch.linalg.svd(small.T, full_matrices=False)
    reads = to_span @ left.unflatten(0, (readout.pooling.n_heads, -1))
    return SingularVectors(reads.flatten(0, 1), values, right @ in_joint.T)
