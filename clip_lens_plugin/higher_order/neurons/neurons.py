"""What neurons add through later heads: scalars of each image times directions that are fixed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from markupsafe import Markup
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.higher_order import equations
from clip_lens_plugin.higher_order.directions import NeuronDirections
from clip_lens_plugin.higher_order.frozen_run import FROZEN
from clip_lens_plugin.higher_order.scalars import checked_neurons, later_layers, scalars_and_norms
from clip_lens_plugin.higher_order.texts import given_texts
from clip_lens_plugin.model.bridged import resolved_tower
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.shown import Tabled

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PIECE_NUMBERS = 2**25
"""About how many numbers of directions are made at once."""

AT_A_GLANCE = 2**31
"""Products of numbers that a result in a notebook may take to show itself."""


@dataclass(frozen=True, eq=False, repr=False)
class SecondOrder(Tabled):
    """What neurons of a layer add to the embeddings of b images through every later head: one hop of attention.

    φ[b, m] = Σ s[b, m, l, h, p] D[m, l, h, p]: a scalar of each image times a direction that is the same for all. The m
    are the chosen neurons, l the layers after theirs, h their heads, p the heads of an attention pool (1 for other
    poolings). Patterns, the scales of LayerNorms and the norm of the embedding are as they were in the run.
    ``NeuronMoments.from_effects`` of it gives each neuron's principal direction.

    Attributes:
        readout: the model's folded weights.
        layer: of the neurons.
        neurons: their positions in the layer [m].
        names: of the images (or texts).
        scalars: s, float32, or float64 for a float64 model.
        unit: "embedding", or "cosine" after :meth:`normalized`.
        rounding: the coarsest dtype that the model's products were rounded to.
    """

    readout: Readout
    layer: int
    neurons: Int[Tensor, " m"]
    names: tuple[str, ...]
    scalars: Float[Tensor, "b m l h p"]
    unit: str
    rounding: torch.dtype
    _norm: Float[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.scalars)

    @classmethod
    def joined(cls, runs: Sequence[SecondOrder]) -> SecondOrder:
        """The effects of several runs as those of one, for images that were run a few at a time.

        Args:
            runs: one or more, of the same model and neurons and in the same unit.

        Raises:
            ValueError: if there is none, or they are of other neurons or in other units.
        """
        if not runs:
            raise ValueError("Effects of one run or more can be joined, got none.")
        first, *others = runs
        for each in others:
            if each.layer != first.layer or not torch.equal(each.neurons, first.neurons) or each.unit != first.unit:
                raise ValueError("Effects of other neurons, or in other units, do not join.")
        return replace(
            first,
            names=tuple(name for each in runs for name in each.names),
            scalars=torch.cat([each.scalars for each in runs]),
            rounding=max((each.rounding for each in runs), key=lambda dtype: torch.finfo(dtype).eps),
            _norm=torch.cat([each._norm for each in runs]),
        )

    def of_neurons(self, neurons: Any) -> SecondOrder:
        """The effects of some of the chosen neurons alone, in the given order.

        Args:
            neurons: positions in the layer.

        Raises:
            ValueError: if one was not chosen, or they are no positions.
            IndexError: if there is no such neuron.
        """
        places = self._among(neurons)
        return replace(self, neurons=self.neurons[places], scalars=self.scalars[:, places])

    @property
    def later_layers(self) -> range:
        """Numbers of the l layers whose heads read the neurons."""
        return later_layers(self.readout.model, self.layer)

    def directions(self, neurons: Any = None) -> Float[Tensor, "m l h p e"]:
        """D: what a scalar of 1 adds, ``W_out[m] C diag(γ) W_V M``; of all chosen neurons l · h · p · e numbers each.

        Args:
            neurons: positions in the layer of some of the chosen neurons; all if not given.

        Raises:
            ValueError: if one was not chosen, or they are no positions.
            IndexError: if there is no such neuron.
        """
        return self._directions.of(self._among(neurons)).unflatten(1, self.scalars.shape[2:])

    @full_precision()
    def effects(self, neurons: Any = None) -> Float[Tensor, "b m e"]:
        """φ: what each neuron adds to each embedding through all later heads together; see :meth:`directions`."""
        some = self._among(neurons)
        return equations.neuron_effects(self._joined[:, some], self._directions.of(some))

    def towards(self, texts: Any) -> Float[Tensor, "b m t"]:
        """φ · e_t: dot products of the neurons' effects with texts; nothing of width e is built.

        Args:
            texts: one or more, or a pool; or embeddings, or any directions of the joint space, [t, e].

        Raises:
            ValueError: if the width is not e, a value is not finite, or there is no text, or no tokenizer for one.
        """
        embeddings = given_texts(self.readout, texts)[1]
        with full_precision():
            onto = self._directions.onto(embeddings)
            made = [
                equations.neuron_effects(self._joined[:, some], self._directions.through(some, onto))
                for some in self._pieces(len(embeddings))
            ]
            return torch.cat(made, dim=1)

    @full_precision()
    def total(self) -> Float[Tensor, "b e"]:
        """What the chosen neurons add together."""
        width = self.readout.P.shape[1]
        made = self.scalars.new_zeros(len(self), width)
        for some in self._pieces(width):
            made += equations.neuron_effects(self._joined[:, some], self._directions.of(some)).sum(1)
        return made

    @full_precision()
    def lengths(self) -> Float[Tensor, "b m"]:
        """‖φ‖ in float64: how much each neuron matters to each image."""
        made = [
            self._directions.lengths(some, self._joined[:, some])
            for some in self._pieces(self._directions.n_readers + self.readout.P.shape[1])
        ]
        return torch.cat(made, dim=1)

    def strongest(self, neuron: int, count: int = 8) -> pd.DataFrame:
        """The images where a neuron matters most: one row per image, by length: image, row, length.

        Raises:
            ValueError: if the neuron was not chosen, or ``count`` is no whole number of at least 1.
            IndexError: if there is no such neuron.
        """
        one = self.of_neurons([neuron])
        count = checked_number("count", count)
        found = one.lengths()[:, 0].sort(descending=True, stable=True)
        rows = found.indices[:count].tolist()
        names = [self.names[row] for row in rows]
        return pd.DataFrame({"image": names, "row": rows, "length": found.values[:count].cpu().numpy()})

    def normalized(self) -> SecondOrder:
        """The same divided by ‖M(I)‖, so that dot products with unit text embeddings are parts of a cosine."""
        if self.unit == "cosine":
            return self
        return replace(self, unit="cosine", scalars=self.scalars / self._norm.reshape(-1, 1, 1, 1, 1))

    def to_dataframe(self) -> pd.DataFrame:
        """One row per neuron: layer, neuron, length_mean, length_max, and the image where it matters most."""
        lengths = self.lengths().cpu()
        most = lengths.max(0)
        return pd.DataFrame(
            {
                "layer": self.layer,
                "neuron": self.neurons.tolist(),
                "length_mean": lengths.mean(0).numpy(),
                "length_max": most.values.numpy(),
                "image": [self.names[row] for row in most.indices.tolist()],
            }
        )

    def _repr_html_(self) -> str:
        """The table where it takes a second or two at most, and words alone where it takes longer."""
        products = len(self.neurons) * self._directions.n_readers**2 * self.readout.P.shape[1]
        return super()._repr_html_() if products <= AT_A_GLANCE else str(Markup("<p>{}</p>").format(str(self)))

    def __repr__(self) -> str:
        counted = f"images={len(self)}, neurons={len(self.neurons)}"
        return f"SecondOrder(layer {self.layer}, {counted}, unit={self.unit!r}; {FROZEN})"

    @property
    def _joined(self) -> Float[Tensor, "b m q"]:
        return self.scalars.flatten(2)

    @cached_property
    def _directions(self) -> NeuronDirections:
        return NeuronDirections(self.readout, self.layer, self.neurons)

    def _pieces(self, width: int) -> Iterator[slice]:
        step = max(1, PIECE_NUMBERS // (self._directions.n_readers * width))
        return (slice(start, start + step) for start in range(0, len(self.neurons), step))

    def _among(self, neurons: Any) -> Int[Tensor, " s"]:
        """Places among the chosen neurons."""
        if neurons is None:
            return torch.arange(len(self.neurons), device="cpu")
        asked = checked_neurons(self.readout.model, {self.layer: neurons})[self.layer].tolist()
        places = {neuron: place for place, neuron in enumerate(self.neurons.tolist())}
        missing = [neuron for neuron in asked if neuron not in places]
        if missing:
            raise ValueError(
                f"Neuron {missing[0]} of layer {self.layer} is not among the {len(places)} that were chosen: "
                f"second_order(model, images, {self.layer}, neurons=[{missing[0]}])."
            )
        return torch.tensor([places[neuron] for neuron in asked], device="cpu")


def second_order(
    model: Tower | TransformerBridge,
    images: Any,
    layer: int,
    neurons: Any = None,
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> SecondOrder:
    """What each neuron of a layer adds to the embeddings through every later head, exact for frozen patterns.

    Neuron m adds ``s D`` through head h of layer l' (and head p of an attention pool), with ā the effective attention
    (equation 4 of Gandelsman, Efros and Steinhardt, ICLR 2024), σ and γ of the LayerNorm before it, and M its map:

        ``s = Σ_i (ā_{i,p} / σ_i) act[i, m]``,   ``D = W_out[m] C diag(γ) W_V M_p``

    The scalars are taken while the model runs, and nothing of images, tokens, neurons and d is built. Patterns,
    statistics and norm are frozen; what a neuron changes in MLPs between is not counted. The idea of second-order
    effects of neurons is of Gandelsman, Efros and Steinhardt, "Interpreting the Second-Order Effects of Neurons in
    CLIP", ICLR 2025.

    Args:
        model: a ``HookedCLIP``, a ``TransformerBridge``, or a text tower ``model.text``.
        images: see :func:`~clip_lens_plugin.decomposition.running.runs.decompose_images`; texts for a text tower.
        layer: of the neurons; not the last, whose neurons no head reads.
        neurons: their positions: a slice, a range, whole numbers or a mask; all if not given. One that occurs twice is
            taken once.
        batch_size: images in each run of the model; by the memory that a run takes if not given.
        progress: show a progress bar.

    Raises:
        ValueError: if the layer's MLP normalises what it writes, or is the last; or if there are hooks on the model
            that second order does not see; the message names them.
        IndexError: if there is no such layer or neuron.
        PixelError: if the images are neither pictures nor pixels of the model's shape.
    """
    tower = resolved_tower(model)
    chosen = {tower.cfg.checked_layer(layer): neurons}
    found = scalars_and_norms(tower, images, chosen, batch_size, progress)
    (number, rows), *_ = found.chosen.items()
    return SecondOrder(
        readout=Readout.of(found.tower),
        layer=number,
        neurons=rows,
        names=found.names,
        scalars=found.scalars[number],
        unit="embedding",
        rounding=found.rounding,
        _norm=found.norms,
    )
