"""What heads write in the place of their own when they are removed: their mean over images, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.ablation.data import means_of
from clip_lens_plugin.ablation.means import activation_means
from clip_lens_plugin.collection.given_data import data_of, is_path_of_store
from clip_lens_plugin.decomposition.analysed import Analysed
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.decomposition.running.runs import decompose_images
from clip_lens_plugin.hints import given_as
from clip_lens_plugin.model.inputs.given import given_images
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.plain_text import how_many
from clip_lens_plugin.statistics.means import ComponentSums

SAME_WEIGHTS = 0.02
"""Greatest relative difference of weights that is taken for rounding, in any dtype."""


@dataclass(frozen=True)
class Replacement:
    """What is put in the place of what a head writes.

    Attributes:
        ablation: "mean" or "zero".
        in_words: what removed heads write, in words.
        coordinates: the mean of each head's y in cosine units [l, h, k], for the sum; None for zero.
        activations: ``hook_z`` of each layer to its mean [n, h, k], for a run; empty for zero.
        data: the images that the means are of, where they are known row by row or by their moments.
    """

    ablation: Literal["mean", "zero"]
    in_words: str
    coordinates: Float[Tensor, "l h k"] | None = None
    activations: Mapping[str, Tensor] | None = None
    data: Data | None = None

    @classmethod
    def of(cls, model: ImageModel, means: Any, own: Contributions, batch_size: int) -> Replacement:
        """Of what was given as ``means``.

        Args:
            means: None for zero; contributions, a store or its path, or sums; or images.
            own: of the image that is explained, in cosine units.
            batch_size: images in a run.

        Raises:
            ValueError: if the means are of another model, in other units, or do not say what a head writes at a token.
        """
        if means is None:
            return cls("zero", "nothing")
        if not is_path_of_store(means) and not isinstance(means, Analysed | ComponentSums):
            return cls._of_images(model, means, batch_size)
        data = means if isinstance(means, ComponentSums) else data_of(means, model)
        sums = data if isinstance(data, ComponentSums) else ComponentSums.of(data, "separate")
        _refuse_other_model(own, sums, data)
        mean = means_of(sums, "separate").coordinates.to(own.embedding)
        in_words = f"their mean over {how_many(sums.n, 'image')}, the same at every token"
        kept = None if isinstance(data, ComponentSums) else data
        return cls("mean", in_words, mean, _everywhere(model, own, mean), kept)

    @classmethod
    def _of_images(cls, model: ImageModel, images: Any, batch_size: int) -> Replacement:
        given = given_images(model, images)
        names = [f"blocks.{l}.attn.hook_z" for l in range(model.cfg.n_layers)]
        data = decompose_images(model, given, batch_size=batch_size)
        mean = ComponentSums.of(data).mean().coordinates.to(data.embedding)
        in_words = f"their mean over {how_many(len(data), 'image')}, at each token its own"
        return cls("mean", in_words, mean, activation_means(model, given, names, batch_size), data)

    def change(self, own: Contributions) -> Float[Tensor, "1 l h k"]:
        """What each head's y loses if the head is replaced in the sum."""
        return own.head_coordinates if self.coordinates is None else own.head_coordinates - self.coordinates


def _everywhere(model: ImageModel, own: Contributions, mean: Float[Tensor, "l h k"]) -> dict[str, Tensor]:
    """``hook_z`` that is the same at every token and gives each head the mean as its y, this image's ω frozen.

    y = Σ_q ω z is z Σ_q ω where z is the same at every token.
    """
    if own.readout.pooling.n_heads > 1:
        raise ValueError(
            f"These means are of what reaches the embedding through the {own.readout.pooling.n_heads} heads of the "
            f"attention pool of {model.cfg.model_name}, and do not say what a head writes at a token. Give images as "
            f"{given_as('means')}."
        )
    z = mean / own.omega.sum()
    tokens = model.cfg.n_ctx
    return {f"blocks.{l}.attn.hook_z": each.expand(tokens, -1, -1) for l, each in enumerate(z)}


def _refuse_other_model(own: Contributions, sums: ComponentSums, data: Data | ComponentSums) -> None:
    """Raises ValueError if the means are of a model with other weights."""
    shapes = list(sums.coordinates.shape), list(own.own_coordinates.shape[1:])
    other = shapes[0] != shapes[1]
    if not other and not isinstance(data, ComponentSums):
        other = not _same_weights(own.readout, data.readout)
    if other:
        raise ValueError(
            f"The means are of another model than {own.readout.model.cfg.model_name} ([layers, heads, coordinates] is "
            f"{shapes[0]} there and {shapes[1]} here): give means of the model that explains."
        )


def _same_weights(one: Readout, other: Readout) -> bool:
    """Whether the projection and the last layer's heads are the same, but for rounding."""
    for mine, theirs in ((one.P, other.P), (one.W_O[-1], other.W_O[-1])):
        if mine.shape != theirs.shape:
            return False
        if not bool((mine - theirs.to(mine)).norm() <= SAME_WEIGHTS * mine.norm()):
            return False
    return True
