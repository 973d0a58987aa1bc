"""What an analysis takes: the contributions of many images, in memory or in a store, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.bars import tracked
from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.decomposition.constants import Constants
from clip_lens_plugin.decomposition.parts.component_shares import ShareStatistics, shares_by_image
from clip_lens_plugin.decomposition.parts.component_values import ComponentValues
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.hints import hint

Rows_co = TypeVar("Rows_co", bound=ComponentValues, covariant=True)
Sums = TypeVar("Sums")


@dataclass(frozen=True)
class Origin:
    """The data set that was collected.

    Attributes:
        dataset: what it is, in words.
        fingerprint: of its samples' names, sizes and classes, as :meth:`ImageSource.fingerprint` gives it.
    """

    dataset: str
    fingerprint: str


@dataclass(frozen=True)
class Provenance(Origin):
    """The data set that rows were collected from, and which samples they are.

    Attributes:
        positions: in the data set, of each row [n].
    """

    positions: Int[np.ndarray, " n"]


class Analysed(ABC, Generic[Rows_co]):
    """Contributions of n images, a row for each, which are read block by block.

    :data:`~clip_lens_plugin.decomposition.contributions.Data` is this with blocks of ``Contributions``. Both
    ``Contributions`` and ``ContributionStore`` are such data; what is written for this class works on either, and asks
    it rather than which of the two it has. What not all data have is none here: :attr:`part_moments`,
    :attr:`neuron_layers`, :attr:`origin`, :meth:`own_source`.

    Attributes:
        constants: what was done with the constants, "separate" or "shared".
    """

    constants: Constants

    @abstractmethod
    def __len__(self) -> int:
        """n, the number of rows."""

    @property
    @abstractmethod
    def readout(self) -> Readout:
        """The folded weights of the model that the rows are of; ``readout.model`` is the model."""

    @property
    @abstractmethod
    def has_self_attention(self) -> bool:
        """Whether what the class token sends to itself was kept."""

    @property
    @abstractmethod
    def labels(self) -> Int[Tensor, " n"] | None:
        """The class of each row, -1 where unknown; None where no row has one."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...] | None:
        """Names of the labels; None if they are unknown."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...] | None:
        """The name of each row's image; None if they have no names."""

    @property
    @abstractmethod
    def provenance(self) -> Provenance | None:
        """The data set that the rows were collected from; None if that is not known."""

    @property
    def positions(self) -> Int[np.ndarray, " n"]:
        """Where each row stands in its data set: in :meth:`own_source`, and as moments of neurons count."""
        found = self.provenance
        return np.arange(len(self)) if found is None else found.positions

    @property
    def origin(self) -> Origin | None:
        """The data set that was collected, also where no rows were kept; None if that is not known."""
        return self.provenance

    @property
    def has_rows(self) -> bool:
        """Whether there are rows, and not sums over them alone."""
        return True

    @property
    def part_moments(self) -> tuple[Any, ...]:
        """``Moments`` of disjoint parts of the images, together all of them; () if they were not kept."""
        return ()

    @property
    def neuron_layers(self) -> tuple[int, ...]:
        """The layers of which there are :meth:`neuron_moments`."""
        return ()

    def neuron_moments(self, layer: int) -> Any:
        """``NeuronMoments`` of the neurons of one of :attr:`neuron_layers`, in cosine units.

        Raises:
            ValueError: if there are none; the message says how to have them.
            IndexError: if there is no such layer.
        """
        make = hint(f"collect(model, images, OUT, neurons=[{layer}])", f"clip-lens collect --neurons {layer}")
        raise ValueError(f"A {type(self).__name__} holds no moments of neurons, which a store does. Make one: {make}.")

    def own_source(self) -> ImageSource | None:
        """The data set in which the pictures of the rows are, at :attr:`positions`; None if it is not in reach."""
        return None

    def needed_source(self) -> ImageSource:
        """The same, where the model is to be run on the pictures.

        Raises:
            ValueError: if they are not in reach; the message says what to give.
        """
        found = self.own_source()
        if found is None:
            raise ValueError(
                "Total effects run the model: give images, the preprocessed ones of the data or the data set of the "
                "store."
            )
        return found

    @abstractmethod
    def blocks(self) -> Iterator[range]:
        """All rows in order, in pieces that can be held in memory: ``data.select(rows) for rows in data.blocks()``."""

    @abstractmethod
    def select(self, rows: Any) -> Rows_co:
        """The contributions of some rows, in the given order.

        Args:
            rows: a slice or range, positions (negative ones count from the end), or a mask with one truth value per
                row; as a list, an array or a tensor.

        Raises:
            ValueError: if it is none of these, or no rows were kept.
            IndexError: if there is no such row, or the mask has another length.
        """

    @abstractmethod
    def kept(self, statistic: type[Sums]) -> Sums | None:
        """The ``statistic`` over all rows, in cosine units, if it was kept; None if it must be taken again."""

    @abstractmethod
    def greatest_error(self) -> float:
        """Greatest relative difference between the sum of the parts and the embedding over all rows.

        As it was measured when the rows were made, before they were rounded to a store's dtype.
        """

    def head_blocks(self, heads: Sequence[tuple[int, int]]) -> Iterator[tuple[range, Float[Tensor, "s m k"]]]:
        """Coordinates y of m heads, in cosine units, in float64: of all rows in order, in pieces with their rows.

        A store reads these heads and nothing else.

        Args:
            heads: (layer, head) pairs, counted from the start.

        Raises:
            ValueError: as :meth:`select`.
        """
        for rows in self.blocks():
            some: Any = self.select(rows)  # Contributions, which are defined by this class.
            y = some.normalized().head_coordinates
            yield rows, torch.stack([y[:, layer, head] for layer, head in heads], dim=1).double()

    def shares(self, per_image: bool = False) -> pd.DataFrame:
        """The share of the embedding that each component is: c · M(I) / ‖M(I)‖², a part of 1, over all images.

        All shares of an image sum to 1. A negative one points away from the embedding.

        Args:
            per_image: the shares of each image in the place of their mean and standard deviation.

        Returns:
            One row per component: ``part`` ("embed", "head", "attn_bias", "mlp", "edits", "ln_bias", "pool_bias",
            "pool_mlp"), ``layer`` and ``head`` (none where there is no such), ``share_mean`` and ``share_std`` (over
            n, not n − 1). Per image one row per image and component: ``row``, ``part``, ``layer``, ``head``, ``share``.

        Raises:
            ValueError: if there is no row, or none were kept.
        """
        blocks = (self.select(rows) for rows in tracked([*self.blocks()], "measuring shares", visible=False))
        return shares_by_image(blocks) if per_image else ShareStatistics.of(blocks).by_component()
