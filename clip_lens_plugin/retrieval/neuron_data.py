"""What neurons are described by: moments that a store kept, or their effects on pictures that are run now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.bars import tracked
from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.higher_order.neurons.moments_size import refuse_large_moments
from clip_lens_plugin.higher_order.neurons.neuron_moments import NeuronMoments
from clip_lens_plugin.higher_order.neurons.neurons import SecondOrder, second_order
from clip_lens_plugin.hints import hint

MOST_RUN = 64
"""Pictures that are run where no moments were kept: the first ones."""

PIECE_NUMBERS = 2**24
"""About how many numbers of effects and directions are made at once to rank neurons."""


@dataclass(frozen=True)
class ChosenMoments:
    """The neurons of a layer that are to be described.

    Attributes:
        readout: of their model.
        moments: the strongest first.
        n_neurons: of which they are the strongest.
        names: of the images where they matter most, by position.
        data: where the pictures are; None for effects.
    """

    readout: Readout
    moments: NeuronMoments
    n_neurons: int
    names: Mapping[int, str]
    data: Data | None


def chosen_moments(given: Any, layer: int, neurons: Any, count: int) -> ChosenMoments:
    """The strongest of some neurons, see :func:`~clip_lens_plugin.retrieval.strongest_neurons`."""
    if isinstance(given, SecondOrder):
        return _of_effects(given, layer, neurons, count)
    data = data_of(given)
    if not data.has_rows or data.readout.model.cfg.checked_layer(layer) in data.neuron_layers:
        return _kept(data, layer, neurons, count)
    source = data.own_source()
    if source is not None:
        positions = data.positions[:MOST_RUN].tolist()
        images = [source.read(position).image for position in positions]
        found = _of_pictures(data, images, layer, neurons, count)
        return _renumbered(found, positions, data)
    make = hint(f"collect(model, images, OUT, neurons=[{layer}])", f"clip-lens collect --neurons {layer}")
    raise ValueError(
        f"Moments of neurons are kept by a store, or taken of pictures in reach, got {type(data).__name__} without "
        f"either. Make one: {make}."
    )


def names_at(data: Data, positions: Sequence[int]) -> dict[int, str]:
    """Names of the samples at positions in the data set: those of rows, or of the data set where that is in reach."""
    names = data.names if data.has_rows else None
    if names is not None:
        rows = {int(position): row for row, position in enumerate(data.positions)}
        return {position: names[rows[position]] for position in positions}
    source = data.own_source()
    return {position: f"image {position}" if source is None else source.name(position) for position in positions}


def _kept(data: Data, layer: int, neurons: Any, count: int) -> ChosenMoments:
    model, moments = data.readout.image_model, data.neuron_moments(layer)
    some = moments if neurons is None else moments.of_neurons(model, neurons)
    found = some.strongest(model, count)
    return ChosenMoments(data.readout, found, len(some), names_at(data, _positions(found)), data)


def _of_pictures(data: Any, images: Sequence[Any], layer: int, neurons: Any, count: int) -> ChosenMoments:
    model: Any = data.readout.image_model
    pixels = [each if isinstance(each, Tensor) else model.prepare([each])[0] for each in images]
    effects = second_order(model, torch.stack(pixels), layer, neurons).normalized()
    return _of_effects(effects, layer, None, count)


def _of_effects(effects: SecondOrder, layer: int, neurons: Any, count: int) -> ChosenMoments:
    """The neurons whose effects vary most, in cosine units; of few images, these take less than moments of all."""
    effects, tower = effects.normalized(), effects.readout.model
    number = tower.cfg.checked_layer(layer)
    if number != effects.layer:
        raise ValueError(f"These effects are of neurons of layer {effects.layer}, not of layer {number}.")
    if len(effects) < 2:
        raise ValueError("Neurons are described by how their effects vary: give two images or more.")
    some = effects if neurons is None else effects.of_neurons(neurons)
    ranked = _variances(some).argsort(descending=True, stable=True)[:count]
    strongest = some.of_neurons(some.neurons[ranked.to(some.neurons.device)])
    refuse_large_moments(tower, {number: strongest.neurons})
    moments = NeuronMoments.from_effects(strongest)
    names = {position: effects.names[position] for position in _positions(moments)}
    return ChosenMoments(effects.readout, moments, len(some.neurons), names, None)


def _variances(effects: SecondOrder) -> Float[Tensor, " m"]:
    """Of each neuron's effect over the images, in float64."""
    width = effects.readout.P.shape[1]
    step = max(1, PIECE_NUMBERS // (width * (len(effects) + effects.scalars[0, 0].numel())))
    found = []
    for start in tracked(range(0, len(effects.neurons), step), "ranking neurons", visible=False):
        phi = effects.effects(effects.neurons[start : start + step]).double()
        found.append((phi - phi.mean(0)).square().sum(-1).mean(0))
    return torch.cat(found)


def _renumbered(found: ChosenMoments, positions: list[int], data: Data) -> ChosenMoments:
    """Rows by their positions in the data set."""
    greatest = found.moments.greatest
    moved = torch.tensor(positions).to(greatest.positions)[greatest.positions]
    moments = replace(found.moments, greatest=replace(greatest, positions=moved))
    return replace(found, moments=moments, names=names_at(data, _positions(moments)), data=data)


def _positions(moments: NeuronMoments) -> list[int]:
    return sorted(set(moments.greatest.positions.flatten().tolist()))
