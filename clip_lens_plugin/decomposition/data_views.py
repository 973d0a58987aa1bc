"""Data that are some rows of other data, or all of them held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_indices
from clip_lens_plugin.decomposition.analysed import Provenance
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.decomposition.readout import Readout

Sums = TypeVar("Sums")


class SomeRows(Data):
    """Some rows of data, in their order, read from these when they are asked for."""

    def __init__(self, whole: Data, rows: Any) -> None:
        """
        Args:
            whole: the data.
            rows: as for ``whole.select``; each once.

        Raises:
            ValueError: if they are no rows.
            IndexError: if there is no such row.
        """
        self._whole, self.constants = whole, whole.constants
        self._rows = np.unique(checked_indices("row", rows, len(whole)).numpy())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def readout(self) -> Readout:
        return self._whole.readout

    @property
    def has_self_attention(self) -> bool:
        return self._whole.has_self_attention

    @property
    def labels(self) -> Int[Tensor, " n"] | None:
        return None if self._whole.labels is None else self._whole.labels[torch.from_numpy(self._rows)]

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self._whole.classes

    @property
    def names(self) -> tuple[str, ...] | None:
        return None if self._whole.names is None else tuple(self._whole.names[row] for row in self._rows)

    @property
    def provenance(self) -> Provenance | None:
        found = self._whole.provenance
        return None if found is None else Provenance(found.dataset, found.fingerprint, found.positions[self._rows])

    def blocks(self) -> Iterator[range]:
        """The blocks of the whole, less the rows that are left out."""
        for rows in self._whole.blocks():
            start, stop = np.searchsorted(self._rows, [rows.start, rows.stop]).tolist()
            if start < stop:
                yield range(start, stop)

    def select(self, rows: Any) -> Contributions:
        return self._whole.select(self._rows[checked_indices("row", rows, len(self)).numpy()])

    def kept(self, statistic: type[Sums]) -> Sums | None:
        """None: what was kept is of all rows."""
        return None

    def greatest_error(self) -> float:
        """The greatest error of all rows of the whole."""
        return self._whole.greatest_error()


class Held(SomeRows):
    """All rows of data in memory, to be read many times; what was kept of them stays."""

    def __init__(self, whole: Data) -> None:
        super().__init__(whole, range(len(whole)))
        self._held = whole.select(range(len(whole)))

    @property
    def readout(self) -> Readout:
        return self._held.readout

    def blocks(self) -> Iterator[range]:
        """All rows at once."""
        return self._held.blocks()

    def select(self, rows: Any) -> Contributions:
        return self._held.select(rows)

    def kept(self, statistic: type[Sums]) -> Sums | None:
        return self._whole.kept(statistic)


def held_if_small(data: Data, most: int) -> Data:
    """The data with their rows in memory if they take at most so many bytes there, or else as they are."""
    if len(data) == 0:
        return data
    row = data.select(range(1))
    each = row.embedding.nbytes + row.head_coordinates.nbytes + row.mlps.nbytes * (2 if data.has_self_attention else 1)
    return Held(data) if each * len(data) <= most else data
