"""Reading what retrieval asks of data: what chosen heads write, piece by piece, and the best rows so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.bars import Bars
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.decomposition.readout import Readout


def checked_noise(data: Data) -> float:
    """Relative size of the rounding of what heads write.

    Raises:
        ValueError: if there is no image, no rows were kept, or the coordinates do not tell what heads write alone.
    """
    if len(data) == 0:
        raise ValueError("There is no image to retrieve.")
    own = data.select(range(0))
    _refuse_unfit(own)
    return own.noise


def written(data: Data, heads: Sequence[tuple[int, int]]) -> Iterator[tuple[range, Float[Tensor, "s m k"]]]:
    """Coordinates of m heads, in cosine units, in float64: all rows in order, piece by piece.

    Raises:
        ValueError: if one is NaN or infinite.
    """
    with Bars(visible=False) as bars:
        bar = bars.add_task("reading what the heads write", total=len(data))
        for rows, y in data.head_blocks(heads):
            bad = ~y.flatten(1).isfinite().all(1)
            if bool(bad.any()):
                at = [rows.start + i for i in bad.nonzero().flatten().tolist()]
                raise ValueError(
                    f"Head contributions are NaN or infinite, or an embedding is zero, in rows {at[:5]}: leave such "
                    f"images out."
                )
            yield rows, y
            bars.update(bar, completed=rows.stop)


def together(own: Contributions, heads: Sequence[tuple[int, int]]) -> Float[Tensor, "s mk"]:
    """Coordinates of some heads, end to end, in float64.

    Raises:
        ValueError: if one is NaN or infinite, or coordinates do not tell what heads write alone.
    """
    _refuse_unfit(own)
    y = torch.cat([own.head_coordinates[:, layer, head].double() for layer, head in heads], dim=1)
    if not bool(y.isfinite().all()):
        raise ValueError("Head contributions are NaN or infinite, or an embedding is zero: leave such images out.")
    return y


def map_together(readout: Readout, heads: Sequence[tuple[int, int]]) -> Float[Tensor, "mk e"]:
    """M of several heads under each other, in float64: their coordinates, end to end, times this is their sum."""
    return torch.cat([readout.head_map(layer, head).double() for layer, head in heads])


@dataclass(frozen=True)
class Best:
    """The highest scores so far of each of m columns, highest first, and their rows; of equal ones the first row."""

    scores: Float[Tensor, "s m"]
    rows: Int[Tensor, "s m"]

    @classmethod
    def none(cls, m: int) -> Best:
        return cls(torch.empty(0, m, device="cpu"), torch.empty(0, m, dtype=torch.int64, device="cpu"))

    def with_more(self, scores: Float[Tensor, "n m"], rows: Int[Tensor, " n"], k: int) -> Best:
        """The best k of these and of later rows' scores."""
        # Last bits of a product depend on how many rows are multiplied at once; float32 does not show them.
        both = torch.cat([self.scores, scores.float()])
        order = both.sort(dim=0, descending=True, stable=True).indices[:k]
        return Best(both.gather(0, order), torch.cat([self.rows, rows[:, None].expand(scores.shape)]).gather(0, order))


def _refuse_unfit(own: Contributions) -> None:
    own.refuse_result_edits()
    if own.constants != "separate":
        raise ValueError("Retrieval takes what heads write alone: decompose with constants='separate'.")
