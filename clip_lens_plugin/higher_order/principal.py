"""The direction along which a neuron's effect varies most over a data set, from moments of its scalars alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.decomposition.equations import along, gram, towards
from clip_lens_plugin.higher_order.directions import NeuronDirections
from clip_lens_plugin.higher_order.equations import neuron_effects
from clip_lens_plugin.higher_order.neurons.greatest_effects import GreatestEffects
from clip_lens_plugin.numerics.precision import full_precision

PIECE_BYTES = 2**26
"""About how much memory is taken for what is made of some neurons at a time."""


@dataclass(frozen=True)
class PrincipalEffects:
    """Principal effects of a layer's neurons over a data set: second order, patterns and statistics frozen; float64.

    Attributes:
        layer: of the neurons.
        neurons: their positions in the layer [m].
        directions: unit vectors along which effects vary most [m, e]; zeros where an effect is the same for all images.
            Of the two signs, the one with which more of the images where the neuron matters most stand on its side.
        share: of the variance that lies along it [m]; NaN where there is none.
        strength: the root of the effect's whole variance [m], in the unit of the moments.
        mean: of the effect [m, e].
        along: effects of the images where it matters most, along the direction [m, c].
    """

    layer: int
    neurons: Int[Tensor, " m"]
    directions: Float[Tensor, "m e"]
    share: Float[Tensor, " m"]
    strength: Float[Tensor, " m"]
    mean: Float[Tensor, "m e"]
    along: Float[Tensor, "m c"]

    def __len__(self) -> int:
        """Number of neurons."""
        return len(self.neurons)

    def towards(self, texts: Float[Tensor, "t e"]) -> Float[Tensor, "m t"]:
        """Dot products of the directions with texts, or other directions of the joint space."""
        return towards(self.directions, texts.to(self.directions))


def pieces(directions: NeuronDirections) -> Iterator[slice]:
    """The neurons, a few at a time, so that what is made of them takes little memory."""
    q, e = directions.n_readers, directions.readout.P.shape[1]
    size = max(1, PIECE_BYTES // (8 * q * (2 * e + 6 * q)))
    yield from (slice(start, start + size) for start in range(0, len(directions), size))


@full_precision()
def principal_effects(
    directions: NeuronDirections,
    mean: Float[Tensor, "m q"],
    covariance: Callable[[slice], Float[Tensor, "s q q"]],
    greatest: GreatestEffects,
) -> PrincipalEffects:
    """Principal effects of all of the neurons, from the mean and covariance of their scalars.

    With ``Cov(s) = R Rᵀ`` the effects' covariance is ``Dᵀ R (Dᵀ R)ᵀ``: its leading axis is ``Dᵀ R u``, u the leading
    eigenvector of ``Rᵀ D Dᵀ R``, which has as many rows as there are scalars.

    Args:
        directions: D.
        mean: E[s], in float64.
        covariance: gives Cov(s) of some of the neurons.
        greatest: the images that choose the sign.
    """
    found: dict[str, list[Tensor]] = {"directions": [], "share": [], "strength": [], "mean": [], "along": []}
    for some in pieces(directions):
        D, C = directions.of(some).double(), covariance(some)
        device = D.device
        root = _root(C.to(device))
        values, axes = torch.linalg.eigh(root.mT @ gram(D) @ root)
        values = values.clamp(min=0)
        variance = values.sum(1)
        axis = torch.nn.functional.normalize(((root @ axes[..., -1:]).mT @ D)[:, 0], dim=1)
        axis = torch.where((variance > 0)[:, None], axis, 0.0)
        effects = neuron_effects(greatest.scalars[some].to(D).transpose(0, 1), along(D, axis)[..., None])[..., 0].T
        side = _side(effects)
        found["directions"].append(axis * side[:, None])
        found["share"].append(values[:, -1] / variance)
        found["strength"].append(variance.sqrt())
        found["mean"].append(neuron_effects(mean[some][None].to(D), D)[0])
        found["along"].append(effects * side[:, None])
    made = {name: torch.cat(each) for name, each in found.items()}
    return PrincipalEffects(directions.layer, directions.neurons.cpu(), **made)


def _root(covariance: Float[Tensor, "s q q"]) -> Float[Tensor, "s q q"]:
    """R of ``C = R Rᵀ``."""
    values, axes = torch.linalg.eigh(covariance)
    return axes * values.clamp(min=0).sqrt()[:, None]


def _side(along: Float[Tensor, "s c"]) -> Float[Tensor, " s"]:
    """1 or −1: the side of most images; where as many stand on each, of the larger sum."""
    votes, total = along.sign().sum(1), along.sum(1)
    return torch.where(torch.where(votes == 0, total, votes) < 0, -1.0, 1.0).to(along)
