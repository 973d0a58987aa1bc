"""Image with text: their cosine as an exact sum over the parts of the one and the parts of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.running.runs import decompose_images
from clip_lens_plugin.decomposition.running.text_runs import decompose_text
from clip_lens_plugin.decomposition.text_contributions import TextContributions, over_words
from clip_lens_plugin.interactions.equations import pair_terms
from clip_lens_plugin.interactions.layer_parts import layer_parts, part_names
from clip_lens_plugin.interactions.means import PartMeans, image_means, text_means
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.inputs.given import given_images
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.shown import Shown

TERMS = ("mean · mean", "mean · deviation", "deviation · mean", "deviation · deviation")


@dataclass(frozen=True, eq=False, repr=False)
class Interaction(Shown):
    """The cosines of b images with t texts, taken apart on both sides. All numbers are parts of a cosine.

    In a notebook it draws itself, words and patches on the pictures that it was made of; ``save("words.html")`` writes
    that, and ``save("layers.pdf", of="layers")`` a heat map: see :func:`~clip_lens_plugin.views.interaction_view`.

    Attributes:
        images, texts: contributions in cosine units, of tokens as well.
        centred: mean parts of images and of texts, taken from both sides of :meth:`heads` and :meth:`layers`; None if
            they are as they are.
    """

    images: Contributions
    texts: TextContributions
    centred: tuple[PartMeans, PartMeans] | None = None

    @property
    def cosine(self) -> Float[Tensor, "b t"]:
        """The cosine of each image with each text, from the embeddings that the model gave."""
        return equations.towards(self.images.embedding, self.texts.embedding)

    @cached_property
    def _heads(self) -> tuple[Float[Tensor, "b l h e"], Float[Tensor, "t m g e"]]:
        return self.images.heads, self.texts.heads

    @full_precision()
    def heads(self) -> Float[Tensor, "b t l h m g"]:
        """What each head of the image tower [l, h] and each of the text tower [m, g] add together.

        Centred, each head's deviation from its mean: the heads' own part of "deviation · deviation". Without, the means
        that all images and all texts share make most of it, and shares of heads say little.
        """
        image, text = self._heads
        if self.centred is not None:
            image, text = image - self.centred[0].heads.to(image), text - self.centred[1].heads.to(text)
        return pair_terms(image, text)

    @full_precision()
    def layers(self) -> Float[Tensor, "b t c f"]:
        """What each part of the image [c] and of the text [f] add together; all of them sum to :attr:`cosine`.

        The parts are :attr:`image_parts` and :attr:`text_parts`. Centred, each part's deviation from its mean: they sum
        to the term "deviation · deviation".

        Raises:
            ValueError: if the means are of moments, which do not know all parts.
        """
        image, text = (layer_parts(c, h) for c, h in zip((self.images, self.texts), self._heads, strict=True))
        if self.centred is not None:
            of_images, of_texts = (each.known_parts.to(image) for each in self.centred)
            image, text = image - of_images, text - of_texts
        return pair_terms(image, text)

    @property
    def image_parts(self) -> tuple[str, ...]:
        """Names of the image's parts in :meth:`layers`."""
        return part_names(self.images.n_layers)

    @property
    def text_parts(self) -> tuple[str, ...]:
        """Names of the text's parts in :meth:`layers`."""
        return part_names(self.texts.n_layers)

    @full_precision()
    def tokens(self) -> Float[Tensor, "b t n m"]:
        """What each token of an image [n] and each of a text [m] add together through all heads; never centred.

        Raises:
            TokensNotAvailableError: if a hook replaced the output of a head.
        """
        return pair_terms(self.images.by_token(), self.texts.by_token())

    def words(self) -> list[Float[Tensor, "b n w"]]:
        """The same for each text, over its words (``texts.spelt``) in the place of tokens; see :meth:`tokens`."""
        by_text = zip(self.texts.spelt, self.tokens().unbind(1), strict=True)
        return [over_words(text, each.movedim(-1, 0)).movedim(0, -1) for text, each in by_text]

    @full_precision()
    def terms(self) -> Float[Tensor, "b t 4"]:
        """The cosine's four terms, which sum to it: mean or deviation of the image, times that of the text.

        In the order of :data:`TERMS`, the image first.

        Raises:
            ValueError: if it is not centred, or by moments, which do not say the mean embedding.
        """
        if self.centred is None:
            raise ValueError(
                "The four terms need the means of both sides: interaction(model, images, texts, centred=(images or a "
                "store, a text pool))."
            )
        image, text = self.images.embedding, self.texts.embedding
        of_images, of_texts = (each.embedding.to(image) for each in self.centred)
        own, its = image - of_images, text - of_texts
        both = equations.towards(of_images, of_texts[None]).expand(len(image), len(text))
        across = equations.towards(of_images, its).expand(len(image), -1)
        back = equations.towards(own, of_texts[None]).expand(-1, len(text))
        return torch.stack([both, across, back, equations.towards(own, its)], dim=-1)

    def error(self) -> float:
        """The greatest difference of the parts' sum from the cosine, over all images and texts."""
        whole = self.cosine if self.centred is None else self.terms()[..., 3]
        return float((self.layers().sum((-1, -2)) - whole).abs().max())

    def to_dataframe(self) -> pd.DataFrame:
        """One row per image, text and pair of their parts: image, text, image_part, text_part, value."""
        values = self.layers()
        index = pd.MultiIndex.from_product(
            [self.image_names, self.text_names, self.image_parts, self.text_parts],
            names=["image", "text", "image_part", "text_part"],
        )
        return pd.Series(values.flatten().double().cpu().numpy(), index, name="value").reset_index()

    @property
    def image_names(self) -> Sequence[str]:
        """The pictures' names, or "image 0" and so on."""
        return self.images.names or [f"image {i}" for i in range(len(self.images))]

    @property
    def text_names(self) -> Sequence[str]:
        """The texts, or "text 0" and so on."""
        return self.texts.names or [f"text {t}" for t in range(len(self.texts))]

    def __repr__(self) -> str:
        means = self.centred or ()
        centred = f", centred by {' and '.join(each.of for each in means)}" if means else ""
        summed = "" if any(each.parts is None for each in means) else f"; parts sum up to {self.error():.1e}"
        least, most = (float(each) for each in self.cosine.aminmax())
        counted = f"images={len(self.images)}, texts={len(self.texts)}"
        return f"Interaction({counted}, cosines {least:.4f} to {most:.4f}{centred}{summed})"


@takes_bridges
def interaction(
    model: ImageTextModel,
    images: Any,
    texts: Any,
    *,
    centred: Any = None,
    batch_size: int | None = None,
) -> Interaction:
    """The cosine of each image with each text as an exact sum over image parts and text parts.

    With m = M(I)/‖M(I)‖ = Σ_c m_c and t = T/‖T‖ = Σ_f t_f, the cosine is Σ_c Σ_f m_c · t_f: over heads, over layers, or
    over patches and words. Each side is decomposed once (Gandelsman, Efros and Steinhardt, ICLR 2024, equations 1 to 4,
    on both towers), so it costs about one run of each tower. Hooks on the model and on ``model.text`` stay in force.

    Args:
        model: a ``HookedCLIP``, or a ``TransformerBridge`` of a CLIP.
        images: paths, pictures or pixels, see :mod:`clip_lens_plugin.model.inputs.given`; or contributions of tokens.
        texts: one or more, or token ids; or their contributions.
        centred: what both sides' means are taken over: images (a store or its path, its sums or moments, contributions,
            images) and texts (a :class:`TextPool`, texts, contributions). Nothing is taken away if not given.
        batch_size: images and texts in each run; see :func:`decompose_images`.

    Raises:
        PixelError: if the images are neither pictures nor a floating-point tensor of the model's shape, or hold NaN or
            infinity.
        UnsupportedTowerError: if the text tower is of another architecture, or has a feature that is not supported.
        ValueError: if there is no image or text, contributions share their constants out, or the means are of something
            else than this model's unit embeddings.
    """
    image = images if isinstance(images, Contributions) else _decomposed(model, images, batch_size)
    text = texts if isinstance(texts, TextContributions) else decompose_text(model, texts, batch_size=batch_size)
    for side in (image, text):
        if side.constants != "separate":
            raise ValueError(
                "These contributions share their constants out; an interaction is of parts with separate constants: "
                "call contributions.with_constants('separate')."
            )
    if centred is not None and not (isinstance(centred, tuple | list) and len(centred) == 2):
        raise ValueError(f"centred must be two, what the means of images and of texts are over, got {centred!r:.60}.")
    means = None if centred is None else (image_means(centred[0], model), text_means(centred[1], model))
    return Interaction(image.normalized(), text.normalized(), means)


def _decomposed(model: ImageTextModel, images: Any, batch_size: int | None) -> Contributions:
    given = given_images(model, images)
    with given.checked():
        return decompose_images(model, given, tokens=True, batch_size=batch_size)
