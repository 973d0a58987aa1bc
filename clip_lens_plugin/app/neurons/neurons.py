"""Neurons of a layer: which are asked about, and what each adds to one picture's cosines through later heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.app.asked import Asked
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.state import NEURON
from clip_lens_plugin.arguments import checked_index
from clip_lens_plugin.higher_order.neurons.neurons import SecondOrder, second_order
from clip_lens_plugin.higher_order.scalars import checked_neurons
from clip_lens_plugin.model.hooked_clip import HookedCLIP


def neuron_of(stated: str) -> tuple[int, int | None]:
    """Layer and neuron; None for all neurons of the layer.

    Raises:
        ValueError: if it is neither a layer nor a neuron.
    """
    found = NEURON.fullmatch(stated)
    if found is None:
        raise ValueError(f"{stated!r:.60} is no layer and no neuron: all neurons of a layer are L4, one is L4N100.")
    return int(found[1]), None if found[2] is None else int(found[2])


def checked_neuron(model: HookedCLIP, stated: str) -> tuple[int, int | None]:
    """The same, of the model.

    Raises:
        ValueError: if it is neither, or no later head reads such neurons.
        IndexError: if the model has no such layer or neuron.
    """
    layer, neuron = neuron_of(stated)
    if neuron is not None:
        checked_index("neuron", neuron, model.cfg.d_mlp)
    checked_neurons(model, [layer])
    return layer, neuron


def usual_layer(explored: Explored) -> int:
    """The first layer of which the data holds moments of neurons, or one with a few layers after it."""
    return min(explored.data.neuron_layers, default=max(0, explored.model.cfg.n_layers - 4))


@dataclass(frozen=True)
class Pushes:
    """What each neuron of a layer adds to a picture's cosines with texts, through all later heads together.

    Attributes:
        layer: of the neurons.
        texts: that were asked.
        values: of all neurons of the layer, in cosine units.
    """

    layer: int
    texts: tuple[str, ...]
    values: Float[Tensor, "m t"]

    def strongest(self, count: int) -> list[int]:
        """The neurons with the greatest push towards any of the texts, or away from it."""
        return self.values.abs().amax(1).argsort(descending=True, stable=True)[:count].tolist()

    def places(self, neuron: int) -> list[int]:
        """For each text, the neuron's place among all of the layer, by the size of its push; 1 is the greatest."""
        sizes = self.values.abs()
        return ((sizes > sizes[neuron]).sum(0) + 1).tolist()


def pushes(explored: Explored, asked: Asked, texts: tuple[str, ...], layer: int) -> Pushes:
    """Of a picture, which is run once for each layer.

    Raises:
        ValueError: if no later head reads the layer's neurons.
        IndexError: if there is no such layer.
    """

    def run() -> tuple[Asked, SecondOrder]:
        return asked, second_order(explored.model, asked.pixels, layer).normalized()

    _, effects = explored.neurons.of_picture.of((id(asked), layer), run)
    with torch.no_grad():
        return Pushes(layer, texts, effects.towards(explored.embedded(texts))[0].cpu())
