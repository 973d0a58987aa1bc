"""For each neuron, the images where it matters most: a list that merges, whatever the order of its parts."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

MOST = 16
"""Images that are kept of each neuron."""


@dataclass(frozen=True)
class GreatestEffects:
    """The c images where the effect of each neuron m is longest: the longest first, of equal ones the lower position.

    c is :data:`MOST`, or the number of images where there are fewer.

    Attributes:
        positions: of the images in the data [m, c].
        lengths: ‖φ‖ [m, c], in float64.
        scalars: of the neuron through each later head [m, c, q], in float32.
    """

    positions: Int[Tensor, "m c"]
    lengths: Float[Tensor, "m c"]
    scalars: Float[Tensor, "m c q"]

    @classmethod
    def none(cls, n_neurons: int, n_readers: int, device: torch.device) -> GreatestEffects:
        """Empty, before any image."""
        lengths = torch.empty(n_neurons, 0, dtype=torch.float64).to(device)
        scalars = torch.empty(n_neurons, 0, n_readers, dtype=torch.float32).to(device)
        return cls(lengths.long(), lengths, scalars)

    @classmethod
    def of(
        cls, scalars: Float[Tensor, "m b q"], lengths: Float[Tensor, "m b"], positions: Int[Tensor, " b"]
    ) -> GreatestEffects:
        """The greatest of a batch."""
        everyones = positions.to(lengths.device).expand(lengths.shape)
        return cls(everyones, lengths, scalars)._cut()

    def with_others(self, other: GreatestEffects) -> GreatestEffects:
        """The greatest of both."""
        device = self.lengths.device
        both = {
            each.name: torch.cat([getattr(self, each.name), getattr(other, each.name).to(device)], dim=1)
            for each in fields(self)
        }
        return GreatestEffects(**both)._cut()

    def to(self, device: torch.device) -> GreatestEffects:
        """The same on a device."""
        return GreatestEffects(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})

    def of_neurons(self, places: Int[Tensor, " s"]) -> GreatestEffects:
        """The effects of some neurons, by their places among the m."""
        return GreatestEffects(**{each.name: getattr(self, each.name)[places] for each in fields(self)})

    def _cut(self) -> GreatestEffects:
        by_position = self.positions.argsort(dim=1, stable=True)
        by_length = self.lengths.gather(1, by_position).argsort(dim=1, descending=True, stable=True)
        order = by_position.gather(1, by_length)[:, :MOST]
        chosen = order[..., None].expand(-1, -1, self.scalars.shape[2])
        return GreatestEffects(
            self.positions.gather(1, order), self.lengths.gather(1, order), self.scalars.gather(1, chosen).float()
        )
