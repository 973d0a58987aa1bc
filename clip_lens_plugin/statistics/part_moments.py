"""Moments of disjoint parts of a data set, drawn by row number: what a bootstrap over parts resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt64
from torch import Tensor

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.constants import Constants, checked_constants
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.files.saved_sums import SavedSums, word_of, word_tensor
from clip_lens_plugin.statistics.moments import WORDS, Moments

N_PARTS = 50
"""Into how many disjoint parts the rows of a data set are cut."""

MOST_BYTES = 4 * 10**8
"""The largest moments of parts, all together, that are kept: those of bigG-14 are 0.28 GB."""


def part_of(positions: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The part, 0 to 49, that the row at each position of a data set belongs to; the same wherever it is asked.

    Drawn by a hash of the position (the finaliser of SplitMix64, Steele, Lea and Flood, OOPSLA 2014), and not counted
    off: neighbours in a sorted data set are of one class, and every fiftieth image may be one of each class, as in
    ImageNet's validation set. So each part is a sample of the rows such as another draw would give.
    """
    x: UInt64[np.ndarray, " n"] = positions.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) % np.uint64(N_PARTS)).astype(np.int64)


def parts_bytes(n_layers: int, n_kept: int, n_heads: int, width: int) -> int:
    """Bytes of the moments of all parts in memory; a file holds half of each product, which is symmetric.

    Args:
        n_layers: of the model.
        n_kept: layers whose products are kept.
        n_heads: of a layer.
        width: coordinates of a head.
    """
    return 8 * N_PARTS * n_heads * width * (n_layers + n_kept * width)


@dataclass(frozen=True)
class PartMoments(SavedSums):
    """The sums of :class:`Moments` for each of p disjoint parts, in float64. They add, so they stream and merge.

    All fifty of the last four layers are 82 MB for ViT-B-16 (42 MB in a file) and 0.12 GB for ViT-L-14.

    Attributes:
        n: images of each part.
        sum_y: of every layer.
        sum_yy: of the layers that are kept.
        unit, constants, noise, layers: as of :class:`Moments`.
    """

    KIND: ClassVar[str] = "moments of disjoint parts"

    n: Int[Tensor, " p"]
    sum_y: Float[Tensor, "p l h k"]
    sum_yy: Float[Tensor, "p m h k k"]
    unit: str
    constants: Constants
    noise: float
    layers: tuple[int, ...]

    def __repr__(self) -> str:
        p, l, h, k = self.sum_y.shape
        return (
            f"PartMoments(parts={p}, images={int(self.n.sum())}, layers={l}, heads={h}, coordinates={k}, products of "
            f"layers={list(self.layers)}, unit={self.unit!r})"
        )

    @classmethod
    def none(cls, contributions: Contributions, layers: Sequence[int]) -> PartMoments:
        """Empty sums, to be added to; in the unit of these contributions, with their constants, on their device.

        Args:
            contributions: of some images.
            layers: whose products are kept, in increasing order.
        """
        c = contributions
        _, l, h, k = c.head_coordinates.shape
        sum_y = c.embedding.new_zeros(N_PARTS, l, h, k, dtype=torch.float64)
        sum_yy = sum_y.new_zeros(N_PARTS, len(layers), h, k, k)
        n = torch.zeros(N_PARTS, dtype=torch.int64, device="cpu")
        return cls(n, sum_y, sum_yy, c.unit, c.constants, c.noise, tuple(layers))

    @classmethod
    def of_rows(cls, data: Data, layers: Sequence[int], positions: Sequence[int] | None = None) -> tuple[Moments, ...]:
        """The moments of each part that has rows, in cosine units.

        Args:
            data: one row per image.
            layers: whose products are kept, in increasing order.
            positions: of the rows in the data set, which part them; their numbers if not given.
        """
        found: PartMoments | None = None
        for rows in data.blocks():
            own = data.select(rows).normalized()
            found = cls.none(own, layers) if found is None else found
            found = found.absorb([own], rows if positions is None else positions[rows.start : rows.stop])
        return () if found is None else found.moments()

    def absorb(self, batches: Sequence[Contributions], positions: Sequence[int]) -> PartMoments:
        """These sums with images added in place: ``self`` shares them and is not to be used any more.

        All parts are touched once however many batches there are.

        Args:
            batches: contributions in the unit of the sums.
            positions: in the data set, of their images, one batch after another.

        Raises:
            ValueError: if a hook on ``hook_result`` moved a head out of its own span.
        """
        if not batches:
            return self
        for each in batches:
            each.refuse_result_edits()
        parts = part_of(np.asarray(positions, dtype=np.int64))
        counts = np.bincount(parts, minlength=N_PARTS)
        # Rows of a part side by side, short parts filled up with zeros, so that one product serves all parts.
        order, width = np.argsort(parts, kind="stable"), int(counts.max())
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        place = parts[order] * width + np.arange(len(parts)) - starts
        device = self.sum_y.device
        rows, slots = torch.from_numpy(order).to(device), torch.from_numpy(place).to(device)
        every = [each.head_coordinates for each in batches]
        for layer in range(self.sum_y.shape[1]):
            y = torch.cat([each[:, layer] for each in every]).to(device).double()
            side_by_side = y.new_zeros(N_PARTS * width, *y.shape[1:])
            side_by_side[slots] = y[rows]
            by_part = side_by_side.unflatten(0, (N_PARTS, width))
            self.sum_y[:, layer] += by_part.sum(1)
            if layer in self.layers:
                products = equations.second_moments(by_part)
                self.sum_yy[:, self.layers.index(layer)] += products
        n = self.n + torch.from_numpy(counts.astype(np.int64))
        return replace(self, n=n, noise=max([self.noise, *(each.noise for each in batches)]))

    def absorb_sums(self, other: PartMoments) -> PartMoments:
        """These sums with those of other images of the same data set added in place, as by :meth:`absorb`.

        Raises:
            ValueError: if they are of models of different shape, in different units, of different layers, or one has
                the constants separate and the other shared out.
        """
        same = (self.unit, self.constants, self.layers, self.sum_y.shape)
        if same != (other.unit, other.constants, other.layers, other.sum_y.shape):
            raise ValueError(
                f"{self!r} and {other!r} do not add: they are of other models, units, layers or constants."
            )
        self.sum_y.add_(other.sum_y.to(self.sum_y.device))
        for mine, theirs in zip(self.sum_yy, other.sum_yy, strict=True):
            mine.add_(theirs.to(mine.device))
        return replace(self, n=self.n + other.n, noise=max(self.noise, other.noise))

    def moments(self) -> tuple[Moments, ...]:
        """The moments of each part that has images; they share memory with these sums."""
        layers = None if len(self.layers) == self.sum_y.shape[1] else self.layers
        return tuple(
            Moments(n, self.sum_y[part], self.sum_yy[part], self.unit, self.constants, self.noise, layers)
            for part, n in enumerate(self.n.tolist())
            if n
        )

    def to(self, device: torch.device) -> PartMoments:
        """The same sums on a device."""
        return replace(self, sum_y=self.sum_y.to(device), sum_yy=self.sum_yy.to(device))

    def to_tensors(self) -> dict[str, Tensor]:
        """The fields as tensors, as they are written to a file: of each product, the lower triangle."""
        words = {name: word_tensor(getattr(self, name)) for name in WORDS}
        k = self.sum_yy.shape[-1]
        row, column = torch.tril_indices(k, k, device=self.sum_yy.device)
        return {
            "n": self.n.cpu(),
            "sum_y": self.sum_y.cpu().contiguous(),
            "triangles": self.sum_yy[..., row, column].cpu().contiguous(),
            "noise": torch.tensor(self.noise, dtype=torch.float64, device="cpu"),
            "layers": torch.tensor(self.layers, dtype=torch.int64, device="cpu"),
            **words,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> PartMoments:
        """Reads what :meth:`to_tensors` gave.

        Raises:
            KeyError: if one is missing.
            ValueError: if they do not fit each other.
        """
        sum_y, triangles, n = tensors["sum_y"], tensors["triangles"], tensors["n"]
        p, l, h, k = sum_y.shape
        layers = tuple(tensors["layers"].tolist())
        if (
            triangles.shape != (p, len(layers), h, k * (k + 1) // 2)
            or n.shape != (p,)
            or not set(layers) <= {*range(l)}
        ):
            raise ValueError("its sums do not fit each other")
        sum_yy = triangles.new_zeros(*triangles.shape[:-1], k, k)
        row, column = torch.tril_indices(k, k, device=triangles.device)
        sum_yy[..., row, column] = triangles
        sum_yy[..., column, row] = triangles
        words = {name: word_of(tensors[name]) for name in WORDS}
        constants = checked_constants(words["constants"])
        return cls(n, sum_y, sum_yy, words["unit"], constants, float(tensors["noise"]), layers)
