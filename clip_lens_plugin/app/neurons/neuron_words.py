"""What neurons are over the pictures: texts and images of what each adds through later heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.bars import followed, tracked
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.describe.sparse import sparse_text
from clip_lens_plugin.describe.sparse_result import SparseText
from clip_lens_plugin.higher_order.neurons.moments_size import moments_bytes
from clip_lens_plugin.higher_order.neurons.neuron_moments import NeuronMoments
from clip_lens_plugin.higher_order.neurons.neurons import SecondOrder, second_order
from clip_lens_plugin.higher_order.scalars import later_layers
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.retrieval.neuron_data import MOST_RUN
from clip_lens_plugin.retrieval.strongest import DescribedNeuron, StrongestNeurons, strongest_neurons
from clip_lens_plugin.views.results import NO_PICTURE
from clip_lens_plugin.views.words.neurons import MOST_IMAGES

COUNT = 12
"""Neurons of a layer that are shown."""

DIRECTION_TEXTS = 6
"""Of a direction, as a sum of so many."""

AT_ONCE = 8
"""Pictures of one run, after which others have their turn."""

MOST_BYTES = 2**28
"""Of what neurons do on pictures; the pictures are as many as fit."""


@dataclass(frozen=True)
class Words:
    """What neurons are over the pictures.

    Attributes:
        found: the strongest of the layer, or the one that was asked about.
        of_picture: the strongest of the picture, as far as they are known.
        direction: of the one neuron, as a sum of few texts; None of several, and where there is no direction.
        pictures: by position of an image, for ``found``; none where none is in reach.
        about: the pictures, in a sentence.
    """

    found: StrongestNeurons
    of_picture: tuple[DescribedNeuron, ...]
    direction: SparseText | None
    pictures: Mapping[int, Image.Image]
    about: str


def describable(explored: Explored, layer: int) -> bool:
    """Whether there are moments of the layer's neurons, or pictures to run."""
    return len(explored.in_reach(2)) == 2 or layer in explored.data.neuron_layers


@dataclass(frozen=True)
class Seen:
    """What a layer's neurons are described by.

    Attributes:
        given: moments that the store kept, or effects on pictures that were run.
        rows: of the data, by positions of images.
        neurons: that it is of.
    """

    given: Data | SecondOrder
    rows: Mapping[int, int]
    neurons: Int[Tensor, " m"]


def seen(explored: Explored, layer: int, neuron: int | None) -> Seen:
    """Moments of the store where it holds them, else effects on the first pictures in reach; long the first time.

    Raises:
        ValueError: if there are no moments, and fewer than two pictures are in reach.
    """
    data = explored.data
    if layer in data.neuron_layers:
        neurons = data.neuron_moments(layer).neurons
        if neuron is None or neuron in neurons.tolist():
            return Seen(data, {int(position): row for row, position in enumerate(data.positions)}, neurons)
    effects = explored.neurons.effects.of(layer, lambda: _effects(explored, layer))
    return Seen(effects, dict(enumerate(explored.in_reach(len(effects)))), effects.neurons)


def most_pictures(model: HookedCLIP, layer: int) -> int:
    """How many pictures are run for a layer's neurons."""
    cfg = model.cfg
    readers = len(later_layers(model, layer)) * cfg.n_heads * model.pooling.n_heads
    return max(2, min(MOST_RUN, MOST_BYTES // (4 * cfg.d_mlp * readers)))


def _effects(explored: Explored, layer: int) -> SecondOrder:
    rows = explored.in_reach(most_pictures(explored.model, layer))
    if len(rows) < 2:
        raise ValueError("Neurons are described by two pictures or more, and fewer are in reach: give --images.")
    runs, what = [], f"running the neurons of layer {layer} on {len(rows)} pictures"
    starts = range(0, len(rows), AT_ONCE)
    for start in tracked(starts, what, visible=False):
        some = rows[start : start + AT_ONCE]
        pixels = _pixels(explored, some)
        # Its own bar, of one step, would stand in the place of this one.
        with followed(lambda *said: None):
            run = second_order(explored.model, pixels, layer, batch_size=len(some)).normalized()
        runs.append(replace(run, names=tuple(map(explored.name, some))))
    return SecondOrder.joined(runs)


def _pixels(explored: Explored, rows: Sequence[int]) -> Float[Tensor, "b 3 height width"]:
    cfg, found = explored.model.cfg, []
    for row in rows:
        try:
            found.append(explored.pictures.pixels(row).to(device=cfg.device, dtype=cfg.dtype))
        except OSError as error:
            raise ValueError(f"The picture of {explored.name(row)} cannot be read: {error}.") from error
    return torch.stack(found)


def described(explored: Explored, source: Seen, layer: int, neurons: Sequence[int] | None = None) -> StrongestNeurons:
    """Texts and images of the strongest of some neurons; see :func:`~clip_lens_plugin.retrieval.strongest_neurons`.

    Args:
        source: what they are described by.
        layer: of the neurons.
        neurons: that are asked about; all if not given.
    """
    texts = explored.pool
    count = min(COUNT, max(1, MOST_BYTES // moments_bytes(explored.model, {layer: [0]})))
    return strongest_neurons(source.given, layer, texts.pool, count, neurons=neurons, text_embeddings=texts.embeddings)


def in_words(explored: Explored, layer: int, neuron: int | None, own: Sequence[int]) -> Words:
    """What the neurons are over the pictures; long the first time.

    Args:
        layer: of the neurons.
        neuron: that is asked about; None for all of the layer.
        own: the strongest of the picture.

    Raises:
        ValueError: if there are neither moments nor pictures.
    """
    source = seen(explored, layer, neuron)
    known = set(source.neurons.tolist())
    some = [each for each in own if each in known]
    of_picture = described(explored, source, layer, some) if some else None
    if neuron is None or of_picture is None:
        found = explored.neurons.found.of(layer, lambda: described(explored, source, layer))
    else:
        found = of_picture
    direction = None if neuron is None else _direction(explored, source, layer, neuron)
    shown = [image.position for each in found.neurons for image in each.images[:MOST_IMAGES]]
    pictures = explored.seen([source.rows[position] for position in shown])
    by_position = {position: pictures.get(source.rows[position], NO_PICTURE) for position in shown}
    kept, n = not isinstance(source.given, SecondOrder), found.n_images
    which = f"the {n:,} that the store's moments are of" if kept else f"the first {n:,} of {len(explored):,} in reach"
    return Words(
        found,
        () if of_picture is None else of_picture.neurons,
        direction,
        by_position if pictures else {},
        f"Places, texts and images are over pictures: {which}.",
    )


def _direction(explored: Explored, source: Seen, layer: int, neuron: int) -> SparseText | None:
    """The direction along which a neuron's effect varies most, as a sum of few texts."""
    if isinstance(source.given, SecondOrder):
        moments = NeuronMoments.from_effects(source.given.of_neurons([neuron]))
    else:
        moments = source.given.neuron_moments(layer).of_neurons(explored.model, [neuron])
    direction = moments.principal(explored.model).directions
    if not bool(direction.any()):
        return None
    name, texts = (f"direction of L{layer}N{neuron}",), explored.pool
    return sparse_text(
        explored.model,
        direction,
        texts.pool,
        k=DIRECTION_TEXTS,
        directions=True,
        names=name,
        text_embeddings=texts.embeddings,
    )
