"""Neurons' scalars, taken in the runs that collecting makes anyway, and their moments in the store's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.higher_order.chosen_names import neurons_of_text
from clip_lens_plugin.higher_order.directions import NeuronDirections
from clip_lens_plugin.higher_order.frozen_run import FrozenWatch
from clip_lens_plugin.higher_order.neurons.neuron_moments import NeuronMoments
from clip_lens_plugin.higher_order.scalars import ScalarWatch, checked_neurons
from clip_lens_plugin.model.hooked_clip import HookedCLIP


class CollectedNeurons:
    """The neurons of a plan, in runs of its model."""

    def __init__(self, model: HookedCLIP, text: str, noise: float) -> None:
        self._model, self._noise = model, noise
        self._watch = ScalarWatch(model, checked_neurons(model, neurons_of_text(text)))
        readout = Readout.of(model)
        self._directions = {
            layer: NeuronDirections(readout, layer, neurons) for layer, neurons in self._watch.chosen.items()
        }

    @classmethod
    def of(cls, model: HookedCLIP, plan: Plan) -> CollectedNeurons | None:
        """Those of a store; None where it keeps no neurons."""
        return None if plan.neurons is None else cls(model, plan.neurons, plan.computed_noise)

    @contextmanager
    def watched(self) -> Iterator[FrozenWatch]:
        """Around one run of the model."""
        # The heads' outputs are left alone: a decomposition takes hooks on them for edits. And so is how the model
        # computes patterns: all else that is kept is the same with neurons and without.
        watch = FrozenWatch(self._model, self._watch.readers, self._watch.keep(), beside=True)
        with self._model.hooks(fwd_hooks=list(watch.hooks())):
            yield watch

    def scalars(self, watch: FrozenWatch, embedding: Float[Tensor, "b e"]) -> dict[int, Float[Tensor, "b m q"]]:
        """Of the run that gave the embedding, by layer, in cosine units, as moments of heads are."""
        run = watch.run(embedding)
        norm = run.embedding.norm(dim=-1)[:, None, None]
        return {layer: scalars / norm for layer, scalars in self._watch.scalars(run).items()}

    def added(self, moments: Mapping[int, NeuronMoments], block: BlockScalars) -> dict[int, NeuronMoments]:
        """Moments by layer with a block added, in place; the block's scalars are let go of, layer by layer."""
        found = dict(moments)
        if not block.batches:
            return found
        positions = torch.tensor(block.positions)
        for layer, directions in self._directions.items():
            if layer not in found:
                found[layer] = NeuronMoments.none(directions, noise=self._noise)
            scalars = torch.cat([each.pop(layer) for each in block.batches])
            found[layer] = found[layer].absorb(scalars, positions, directions)
        return found


@dataclass
class BlockScalars:
    """Scalars of a block, or of the part of it that was run so far.

    Attributes:
        positions: in the data set, of all of its images.
        batches: by layer [b, m, q].
    """

    positions: list[int] = field(default_factory=list)
    batches: list[dict[int, Tensor]] = field(default_factory=list)

    def add(self, positions: Sequence[int], scalars: dict[int, Tensor]) -> None:
        """Adds a batch."""
        self.positions.extend(positions)
        self.batches.append(scalars)
