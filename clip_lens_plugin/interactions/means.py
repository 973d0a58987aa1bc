"""What the parts of an embedding are on average: what centring takes away from them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.decomposition.analysed import Analysed
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.decomposition.running.text_runs import decompose_text
from clip_lens_plugin.interactions.layer_parts import joined_parts
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.statistics.means import ComponentSums
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.texts.pool import TextPool


@dataclass(frozen=True)
class PartMeans:
    """Mean parts of unit embeddings, in float64.

    Attributes:
        of: what they are means over, in words.
        heads: [l, h, e].
        parts: of each layer and what lies before and after [c, e]; None of moments, which know heads alone.
    """

    of: str
    heads: Float[Tensor, "l h e"]
    parts: Float[Tensor, "c e"] | None

    @property
    def embedding(self) -> Float[Tensor, " e"]:
        """The mean unit embedding. Raises ValueError as :attr:`known_parts`."""
        return self.known_parts.sum(0)

    @property
    def known_parts(self) -> Float[Tensor, "c e"]:
        """The parts, which sum to the mean unit embedding.

        Raises:
            ValueError: of moments, or of sums of an earlier version, which do not know it.
        """
        if self.parts is None:
            raise ValueError(
                f"{self.of} do not say the mean embedding, so the cosine cannot be split by it: give a store that this "
                f"version collected, images or their contributions. The heads can be centred as they are."
            )
        return self.parts


def image_means(given: Any, model: ImageModel) -> PartMeans:
    """Means over images: a store or its path, its sums or moments, contributions, or images that are run.

    Raises:
        ValueError: if they are of other constants or units than those of a cosine's parts; or as
            :func:`~clip_lens_plugin.collection.given_data.data_of`.
    """
    readout = Readout.of(model)
    if isinstance(given, Moments | ComponentSums):
        return _of_sums(given, readout)
    data = data_of(given, model)
    return _of_sums(ComponentSums.of(data), readout)


def text_means(given: Any, model: Any) -> PartMeans:
    """Means over texts: a pool, texts, or their contributions.

    Raises:
        ValueError: if they are of other constants or units than those of a cosine's parts, or no texts.
    """
    if isinstance(given, str | os.PathLike):
        raise ValueError(f"The mean over texts needs several of them, got {given!r}. Give a TextPool or a list.")
    if isinstance(given, TextPool):
        given = list(given.texts)
    if isinstance(given, Sequence | Tensor):
        given = decompose_text(model, given, tokens=False)
    if not isinstance(given, Contributions | ComponentSums | Moments):
        raise ValueError(f"The mean over texts needs a TextPool or texts, got a {type(given).__name__}.")
    sums = ComponentSums.of(given) if isinstance(given, Analysed) else given
    return _of_sums(sums, Readout.of(model.text), "texts")


def _of_sums(sums: ComponentSums | Moments, readout: Readout, counted: str = "images") -> PartMeans:
    if (sums.unit, sums.constants) != ("cosine", "separate"):
        raise ValueError(
            f"Means of parts of a cosine are of unit embeddings with separate constants, got sums in {sums.unit!r} "
            f"units with constants {sums.constants!r}: sum up contributions.normalized(), of separate constants."
        )
    if sums.n == 0:
        raise ValueError("There is no mean over no images.")
    of_moments = isinstance(sums, Moments)
    coordinates = (sums.sum_y if of_moments else sums.coordinates) / sums.n
    shape = (len(readout.W_O), readout.n_heads, readout.n_coordinates())
    if tuple(coordinates.shape) != shape:
        raise ValueError(
            f"The means are of another model: [layers, heads, coordinates] is {list(coordinates.shape)}, this one's is "
            f"{list(shape)}."
        )
    y = coordinates.to(readout.P)
    streams = [readout.to_stream(each[None], layer) for layer, each in enumerate(y)]
    heads = torch.cat([readout.to_joint(each, "separate") for each in streams]).double()
    of = f"{'Moments' if of_moments else 'Means'} of {sums.n:,} {counted}"
    if isinstance(sums, Moments) or sums.rest is None:
        return PartMeans(of, heads, None)
    mean = sums.mean()
    assert mean.rest is not None
    parts = joined_parts(mean.embed, heads.sum(1).to(mean.embed), mean.attn_bias, mean.mlps, mean.rest)
    return PartMeans(of, heads, parts)
