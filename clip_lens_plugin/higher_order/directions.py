"""The fixed directions of a layer's neurons through every later head: weights alone, the same for all images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.decomposition.equations import gram, quadratic, towards
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.higher_order import equations
from clip_lens_plugin.higher_order.head_maps import HeadMaps
from clip_lens_plugin.higher_order.scalars import later_layers
from clip_lens_plugin.numerics.precision import full_precision


@dataclass(frozen=True)
class NeuronDirections:
    """``D[m,q] = W_out[m] V_g M_{l',g}[p]`` of chosen neurons m; q counts later layers l', their heads g, and p.

    Made for a few neurons at a time: those of all of a layer take m · q · e numbers.

    Attributes:
        readout: the folded weights of a tower.
        layer: of the neurons.
        neurons: their positions in the layer.
    """

    readout: Readout
    layer: int
    neurons: Int[Tensor, " m"]

    def __len__(self) -> int:
        return len(self.neurons)

    @cached_property
    def _maps(self) -> list[HeadMaps]:
        return [HeadMaps.of(self.readout, layer) for layer in later_layers(self.readout.model, self.layer)]

    @property
    def n_readers(self) -> int:
        """q."""
        return len(self._maps) * self.readout.n_heads * self.readout.pooling.n_heads

    @full_precision()
    def of(self, some: slice | Int[Tensor, " s"]) -> Float[Tensor, "s q e"]:
        """The directions of some of the neurons, by their place among :attr:`neurons`."""
        return self.through(some, [maps.joint for maps in self._maps])

    @full_precision()
    def onto(self, texts: Float[Tensor, "t e"]) -> list[Float[Tensor, "g p k t"]]:
        """``M e_t`` of each later layer's heads, for :meth:`through`."""
        return [towards(maps.joint, texts) for maps in self._maps]

    def gram(self, some: slice | Int[Tensor, " s"]) -> Float[Tensor, "s q q"]:
        """``D Dᵀ`` of each neuron in float64: dot products of effects are ``s (D Dᵀ) s'ᵀ``."""
        return gram(self.of(some).double())

    def lengths(self, some: slice | Int[Tensor, " s"], scalars: Float[Tensor, "b s q"]) -> Float[Tensor, "b s"]:
        """``‖s D‖`` of the neurons' effects in float64, by :meth:`gram`: no effect is built."""
        by_neuron = scalars.double().transpose(0, 1)
        return quadratic(by_neuron, self.gram(some)).clamp(min=0).sqrt().T

    @full_precision()
    def through(self, some: slice | Int[Tensor, " s"], maps: list[Float[Tensor, "g p k w"]]) -> Float[Tensor, "s q w"]:
        """Directions by way of other maps: with :meth:`onto`, dot products with texts, and nothing of width e."""
        W_out = self.readout.W_out(self.layer)[self.neurons.to(self.readout.P.device)][some]
        each = zip(self._maps, maps, strict=True)
        by_layer = [equations.neuron_directions(W_out, own.values, onto).flatten(1, 2) for own, onto in each]
        return torch.cat(by_layer, dim=1)
