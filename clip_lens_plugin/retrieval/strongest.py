"""The neurons that matter most to a data set: what each adds through later heads, in texts and in images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.higher_order.frozen_run import FROZEN
from clip_lens_plugin.plain_text import how_many
from clip_lens_plugin.retrieval.neuron_data import chosen_moments
from clip_lens_plugin.shown import Shown
from clip_lens_plugin.texts.pool import TextPool

MOST_SHOWN = 3
"""Neurons in the words of a result."""


@dataclass(frozen=True)
class SidedText:
    """A text on one side of a neuron's principal direction.

    Attributes:
        score: their dot product, less the mean of that over all texts.
    """

    text: str
    score: float


@dataclass(frozen=True)
class SidedImage:
    """An image where a neuron matters most.

    Attributes:
        position: in the data set that was collected.
        name: of the sample.
        along: the neuron's effect along its principal direction, in cosine units; its sign is the image's side.
        length: of the whole effect.
    """

    position: int
    name: str
    along: float
    length: float

    @property
    def caption(self) -> str:
        """Its name, and the sign of its side."""
        return f"{self.name} ({'−' if self.along < 0 else '+'})"


@dataclass(frozen=True)
class DescribedNeuron:
    """A neuron with the texts and images of either side of its principal direction.

    Attributes:
        layer, neuron: which neuron.
        strength: the root of the variance of its effect, in cosine units.
        share: of that variance that lies along the direction; NaN where the effect is the same for all images.
        positive, negative: texts, the farthest first; none where there is no direction.
        images: where the effect is greatest, the greatest first.
    """

    layer: int
    neuron: int
    strength: float
    share: float
    positive: tuple[SidedText, ...]
    negative: tuple[SidedText, ...]
    images: tuple[SidedImage, ...]


@dataclass(frozen=True, eq=False, repr=False)
class StrongestNeurons(Shown):
    """What :func:`strongest_neurons` found; in a notebook it draws itself with the images, where they are in reach.

    Attributes:
        neurons: the strongest first.
        layer: of theirs.
        n_images, n_neurons: that the moments are of.
        n_texts: that were asked about.
        data: the store or contributions; None of effects, and after it was pickled.
    """

    neurons: tuple[DescribedNeuron, ...]
    layer: int
    n_images: int
    n_neurons: int
    n_texts: int
    data: Data | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.neurons)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per neuron: layer, neuron, strength, share; texts, scores and names of images as lists in words.

        ``positive`` and ``negative`` are the texts of either side, ``positive_score`` and ``negative_score`` are of the
        first of them; ``images`` are names, each with the sign of its side.
        """
        return pd.DataFrame(
            {
                "layer": each.layer,
                "neuron": each.neuron,
                "strength": each.strength,
                "share": each.share,
                "positive": "; ".join(side.text for side in each.positive),
                "positive_score": each.positive[0].score if each.positive else float("nan"),
                "negative": "; ".join(side.text for side in each.negative),
                "negative_score": each.negative[0].score if each.negative else float("nan"),
                "images": "; ".join(image.caption for image in each.images),
            }
            for each in self.neurons
        )

    def __repr__(self) -> str:
        named = [
            f"{each.neuron} ({each.strength:.1e}; + {each.positive[0].text!r:.60}, - {each.negative[0].text!r:.60})"
            for each in self.neurons[:MOST_SHOWN]
            if each.positive
        ]
        rest = f", and {len(self) - len(named)} more" if len(self) > len(named) else ""
        images = how_many(self.n_images, "image")
        return f"StrongestNeurons(layer {self.layer}, {images}; {', '.join(named)}{rest}; {FROZEN})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "data": None}


@torch.no_grad()
def strongest_neurons(
    data: Any,
    layer: int,
    texts: TextPool | Sequence[str],
    count: int = 20,
    *,
    neurons: Any = None,
    n_texts: int = 3,
    text_embeddings: Float[Tensor, "t e"] | None = None,
) -> StrongestNeurons:
    """The neurons of a layer whose effect through later heads varies most over a data set, in texts and images.

    An effect varies most along the neuron's principal direction; the texts are those farthest on either side of it,
    and the images those where the effect is greatest, each with its side: second order, patterns and statistics frozen.
    All of it follows from the moments that ``collect(..., neurons=[layer])`` keeps. Without them the model is run on
    the first 64 pictures, where they are in reach.

    Args:
        data: a store or its path, collected with ``neurons``; or a store with rows, or contributions, whose pictures
            are in reach; or what :func:`~clip_lens_plugin.second_order` gave of two images or more.
        layer: of the neurons.
        texts: two or more. Scores are less their mean over the texts, which all directions share with all texts.
        count: of neurons.
        neurons: positions of those that are asked about; all if not given.
        n_texts: of each side.
        text_embeddings: unit embeddings of the texts, to use instead of the model's own.

    Raises:
        ValueError: if there are neither moments of this layer's neurons nor pictures in reach (the message says how to
            have them), or effects are of another layer; if there are fewer than two images or texts, or the embeddings
            do not match; or if a count is no whole number of at least 1.
        IndexError: if there is no such layer or neuron.
    """
    pool = texts if isinstance(texts, TextPool) else TextPool(texts)
    count, n_texts = checked_number("count", count), checked_number("n_texts", n_texts)
    if len(pool) < 2:
        raise ValueError("A direction lies between texts: give two or more, of which some lie on either side.")
    chosen = chosen_moments(data, layer, neurons, count)
    model: Any = chosen.readout.model
    found = chosen.moments
    principal, greatest = found.principal(model), found.greatest
    given = pool.embed(model) if text_embeddings is None else text_embeddings
    scores = principal.towards(chosen.readout.checked_texts(given))
    if scores.shape[1] != len(pool):
        raise ValueError(f"{len(pool)} texts need as many embeddings, got {scores.shape[1]}.")
    scores = scores - scores.mean(dim=1, keepdim=True)
    described = tuple(
        DescribedNeuron(
            layer=found.layer,
            neuron=int(found.neurons[m]),
            strength=float(principal.strength[m]),
            share=float(principal.share[m]),
            positive=_farthest(pool, scores[m], n_texts),
            negative=tuple(replace(each, score=-each.score) for each in _farthest(pool, -scores[m], n_texts)),
            images=tuple(
                SidedImage(position, chosen.names[position], along, length)
                for position, along, length in zip(
                    greatest.positions[m].tolist(),
                    principal.along[m].tolist(),
                    greatest.lengths[m].tolist(),
                    strict=True,
                )
            ),
        )
        for m in range(len(found))
    )
    return StrongestNeurons(described, found.layer, found.n, chosen.n_neurons, len(pool), chosen.data)


def _farthest(pool: TextPool, scores: Float[Tensor, " t"], n: int) -> tuple[SidedText, ...]:
    """Texts with the greatest scores above 0."""
    found = scores.sort(descending=True, stable=True)
    chosen = zip(found.indices[:n].tolist(), found.values[:n].tolist(), strict=True)
    return tuple(SidedText(str(pool.texts[position]), score) for position, score in chosen if score > 0)
