"""What neurons do through later heads over a data set, in sums that add: their scalars' moments and greatest images."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.files.saved_sums import SavedSums, word_of, word_tensor
from clip_lens_plugin.higher_order.directions import NeuronDirections
from clip_lens_plugin.higher_order.neurons.greatest_effects import GreatestEffects
from clip_lens_plugin.higher_order.neurons.neurons import SecondOrder
from clip_lens_plugin.higher_order.principal import PrincipalEffects, pieces, principal_effects
from clip_lens_plugin.higher_order.scalars import checked_neurons
from clip_lens_plugin.model.bridged import resolved
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.numerics.noise import computed_noise, psd_covariance
from clip_lens_plugin.numerics.precision import full_precision

UNITS = ("embedding", "cosine")


@dataclass(frozen=True)
class NeuronMoments(SavedSums):
    """Sums over n images of neurons' scalars s and of their products, in float64: second order, patterns frozen.

    A neuron m of a layer adds ``φ[m] = Σ_q s[m,q] D[m,q]`` through the later heads, q counting later layers, their
    heads, and the heads of an attention pool; D is fixed. So the mean and the covariance of s say all that the mean and
    the covariance of φ do, and no φ is ever kept. They add, so they stream and merge; their size is 8 · q² bytes a
    neuron, and does not grow with n.

    Attributes:
        layer: of the neurons.
        neurons: their positions in the layer [m].
        n: number of images.
        sum_s: [m, q].
        sum_ss: [m, q, q].
        greatest: of each neuron, the images where ‖φ‖ is greatest, with their scalars.
        unit: "embedding", or "cosine" where scalars are divided by the norm of the image's embedding.
        noise: relative size of what rounding left of a scalar.
    """

    KIND: ClassVar[str] = "moments of neurons"

    layer: int
    neurons: Int[Tensor, " m"]
    n: int
    sum_s: Float[Tensor, "m q"]
    sum_ss: Float[Tensor, "m q q"]
    greatest: GreatestEffects
    unit: str
    noise: float

    def __repr__(self) -> str:
        m, q = self.sum_s.shape
        return f"NeuronMoments(layer={self.layer}, neurons={m}, images={self.n}, scalars={q}, unit={self.unit!r})"

    def __len__(self) -> int:
        """Number of neurons."""
        return len(self.neurons)

    @classmethod
    def none(cls, directions: NeuronDirections, unit: str = "cosine", noise: float | None = None) -> NeuronMoments:
        """Empty moments, to be added to.

        Args:
            directions: of the neurons.
            unit: of the scalars that will be added.
            noise: of those; what the model's dtype leaves if not given.
        """
        device, dtype = directions.readout.P.device, directions.readout.model_dtype
        m, q = len(directions), directions.n_readers
        sums = torch.zeros(m, q, dtype=torch.float64).to(device)
        return cls(
            layer=directions.layer,
            neurons=directions.neurons.cpu(),
            n=0,
            sum_s=sums,
            sum_ss=sums.new_zeros(m, q, q),
            greatest=GreatestEffects.none(m, q, device),
            unit=unit,
            noise=computed_noise(dtype) if noise is None else noise,
        )

    @classmethod
    def from_effects(cls, effects: SecondOrder, start: int = 0) -> NeuronMoments:
        """The moments of a batch, in its unit.

        Args:
            effects: of the batch.
            start: position in the data of the batch's first image.

        Raises:
            ValueError: if a scalar is not finite.
        """
        directions = NeuronDirections(effects.readout, effects.layer, effects.neurons)
        positions = torch.arange(start, start + len(effects))
        noise = computed_noise(effects.rounding)
        return cls.none(directions, effects.unit, noise).absorb(effects.scalars.flatten(2), positions, directions)

    @full_precision()
    def absorb(
        self, scalars: Float[Tensor, "b m q"], positions: Int[Tensor, " b"], directions: NeuronDirections
    ) -> NeuronMoments:
        """These sums with a batch added in place: ``self`` shares them and is not to be used any more.

        Args:
            scalars: of the batch, in the unit of the moments.
            positions: of its images in the data.
            directions: of the same neurons; a few at a time are made.

        Raises:
            ValueError: if the neurons are others, or a scalar is not finite; nothing is added then.
        """
        if directions.layer != self.layer or not torch.equal(directions.neurons.cpu(), self.neurons):
            raise ValueError(f"The directions are of other neurons than these moments of layer {self.layer}.")
        if scalars.shape[1:] != self.sum_s.shape:
            raise ValueError(
                f"Scalars of shape {list(scalars.shape)} do not add to moments of {list(self.sum_s.shape)} [neurons, "
                f"later heads]."
            )
        finite = scalars.flatten(1).isfinite().all(1)
        if not bool(finite.all()):
            bad = positions[(~finite).nonzero().flatten().to(positions.device)].tolist()
            raise ValueError(f"The images at positions {bad[:5]} have NaN or infinite scalars.")
        found = []
        for some in pieces(directions):
            s = scalars[:, some].double().transpose(0, 1)
            self.sum_s[some].add_(s.sum(1))
            self.sum_ss[some].baddbmm_(s.transpose(1, 2), s)
            found.append(GreatestEffects.of(s, directions.lengths(some, scalars[:, some]).T, positions))
        batch = GreatestEffects(*(torch.cat([getattr(each, name.name) for each in found]) for name in fields(found[0])))
        return replace(self, n=self.n + len(scalars), greatest=self.greatest.with_others(batch))

    def __add__(self, other: NeuronMoments) -> NeuronMoments:
        """The moments of both data sets together; positions of images stay what they are in each.

        Raises:
            ValueError: if they are of other neurons, of models of different shape, or in different units.
        """
        copied = replace(self, sum_s=self.sum_s.clone(), sum_ss=self.sum_ss.clone())
        return copied.absorb_sums(other)

    def absorb_sums(self, other: NeuronMoments) -> NeuronMoments:
        """These sums with the ``other`` ones added in place, as by :meth:`absorb`.

        Raises:
            ValueError: as for adding.
        """
        self._refuse_other(other)
        device = self.sum_s.device
        self.sum_s.add_(other.sum_s.to(device))
        self.sum_ss.add_(other.sum_ss.to(device))
        both = self.greatest.with_others(other.greatest)
        return replace(self, n=self.n + other.n, greatest=both, noise=max(self.noise, other.noise))

    def to(self, device: torch.device) -> NeuronMoments:
        """The same sums on a device."""
        sums = {"sum_s": self.sum_s.to(device), "sum_ss": self.sum_ss.to(device)}
        return replace(self, greatest=self.greatest.to(device), **sums)

    def _refuse_other(self, other: NeuronMoments) -> None:
        if self.layer != other.layer or not torch.equal(self.neurons, other.neurons):
            raise ValueError(
                f"Moments of other neurons do not add: {len(self)} of layer {self.layer}, and {len(other)} of layer "
                f"{other.layer}{'' if self.layer != other.layer else ', not the same'}."
            )
        if self.sum_s.shape != other.sum_s.shape:
            raise ValueError(
                f"Moments of different models do not add: [neurons, later heads] is {list(self.sum_s.shape)} and "
                f"{list(other.sum_s.shape)}."
            )
        if self.unit != other.unit:
            raise ValueError(f"Moments in {self.unit!r} and in {other.unit!r} units do not add.")

    @property
    def mean(self) -> Float[Tensor, "m q"]:
        """E[s]."""
        return self.sum_s / self.n

    def covariance(self, some: slice = slice(None)) -> Float[Tensor, "s q q"]:
        """E[s sᵀ] − E[s] E[s]ᵀ of some of the neurons, over n (not n − 1), without what is rounding alone.

        Args:
            some: by their place among :attr:`neurons`; all if not given.
        """
        return psd_covariance(self.sum_ss[some] / self.n, self.mean[some], self.noise)

    def principal(self, model: ImageModel) -> PrincipalEffects:
        """The mean effect of each neuron, and the direction along which its effect varies most.

        Args:
            model: that the scalars are of.

        Raises:
            ValueError: if it has other later heads than the moments are of, or they are of no image.
            IndexError: if it has no such layer or neuron.
        """
        return principal_effects(self._directions(model), self.mean, self.covariance, self.greatest)

    @full_precision()
    def strongest(self, model: ImageModel, count: int) -> NeuronMoments:
        """The moments of the neurons whose effects vary most, the strongest first; of all if there are fewer.

        Args:
            model: that the scalars are of.
            count: of neurons.

        Raises:
            ValueError: as for :meth:`principal`; or if ``count`` is no whole number of at least 1.
        """
        count, directions, variances = checked_number("count", count), self._directions(model), []
        for some in pieces(directions):
            gram, mean = directions.gram(some), self.mean[some, None]
            device = gram.device
            moment, of_mean = self.sum_ss[some].to(device) / self.n, (mean.mT @ mean).to(device)
            variances.append(((moment - of_mean) * gram).sum((1, 2)))
        return self._at(torch.cat(variances).argsort(descending=True, stable=True)[:count])

    def of_neurons(self, model: ImageModel, neurons: Any) -> NeuronMoments:
        """The moments of some of the neurons alone, in the given order.

        Args:
            model: that the scalars are of.
            neurons: positions in the layer: a slice, a range, whole numbers or a mask.

        Raises:
            ValueError: if the moments are not of one of them, or they are no positions.
            IndexError: if there is no such neuron.
        """
        asked = checked_neurons(resolved(model), {self.layer: neurons})[self.layer].tolist()
        places = {neuron: place for place, neuron in enumerate(self.neurons.tolist())}
        missing = [neuron for neuron in asked if neuron not in places]
        if missing:
            raise ValueError(
                f"Neuron {missing[0]} of layer {self.layer} is not among the {len(self):,} that these moments are of."
            )
        return self._at(torch.tensor([places[neuron] for neuron in asked]))

    def _at(self, places: Int[Tensor, " s"]) -> NeuronMoments:
        there = places.to(self.sum_s.device)
        sums = {"sum_s": self.sum_s[there], "sum_ss": self.sum_ss[there]}
        neurons = self.neurons[places.to(self.neurons.device)]
        return replace(self, neurons=neurons, greatest=self.greatest.of_neurons(there), **sums)

    def _directions(self, model: ImageModel) -> NeuronDirections:
        """Refuses a model that the moments are not of, and moments of no image."""
        tower = resolved(model)
        checked_neurons(tower, {self.layer: self.neurons})
        directions = NeuronDirections(Readout.of(tower), self.layer, self.neurons)
        if directions.n_readers != self.sum_s.shape[1]:
            raise ValueError(
                f"These moments are of {self.sum_s.shape[1]} scalars of a neuron, but {tower.cfg.model_name} has "
                f"{directions.n_readers} for layer {self.layer}: they are of another model."
            )
        if self.n == 0:
            raise ValueError("There is no principal direction over no images.")
        return directions

    def to_tensors(self) -> dict[str, Tensor]:
        """The fields as tensors, as they are written to a file."""
        greatest = {each.name: getattr(self.greatest, each.name) for each in fields(self.greatest)}
        tensors = {"neurons": self.neurons, "sum_s": self.sum_s, "sum_ss": self.sum_ss, **greatest}
        numbers = {"layer": torch.tensor(self.layer), "n": torch.tensor(self.n)}
        noise = torch.tensor(self.noise, dtype=torch.float64)
        unit = word_tensor(self.unit)
        every = {**numbers, "noise": noise, "unit": unit, **tensors}
        return {name: each.cpu().contiguous() for name, each in every.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> NeuronMoments:
        """Reads the ``tensors`` that :meth:`to_tensors` gave.

        Raises:
            KeyError: if one is missing.
            ValueError: if they do not fit each other.
        """
        unit, (m, q) = word_of(tensors["unit"]), tensors["sum_s"].shape
        greatest = GreatestEffects(**{each.name: tensors[each.name] for each in fields(GreatestEffects)})
        shapes = (tensors["neurons"], (m,)), (tensors["sum_ss"], (m, q, q)), (greatest.scalars[:, 0:0], (m, 0, q))
        if unit not in UNITS or any(each.shape != shape for each, shape in shapes):
            raise ValueError("its sums do not fit each other")
        return cls(
            layer=int(tensors["layer"]),
            neurons=tensors["neurons"],
            n=int(tensors["n"]),
            sum_s=tensors["sum_s"],
            sum_ss=tensors["sum_ss"],
            greatest=greatest,
            unit=unit,
            noise=float(tensors["noise"]),
        )
