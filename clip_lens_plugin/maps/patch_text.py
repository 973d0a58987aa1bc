"""Patch-text maps: what each patch adds to an image's similarity to a text, through chosen heads.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, section 5 (joint decomposition) and equation 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_heads, checked_indices, checked_number, checked_texts
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.constants import GivenConstants
from clip_lens_plugin.decomposition.running.runs import decompose_images
from clip_lens_plugin.describe.spans import HeadSpan
from clip_lens_plugin.maps.leading import LeadingTexts, leading
from clip_lens_plugin.maps.pictured import Pictured, followed, pictured_of
from clip_lens_plugin.maps.scoring import scores_and_cosine
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.hooks.interventions import refuse_left_hooks
from clip_lens_plugin.model.inputs.given import given_image, given_images
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.shown import Shown


@dataclass(frozen=True)
class PatchTextMap(Shown):
    """Signed scores in cosine units; with ``class_token`` they sum to the chosen heads' score.

    In a notebook it draws itself on the pictures that it was made of; ``maps.save("maps.pdf")`` writes that.

    Attributes:
        values: the contribution of each patch [b, t, rows, columns].
        class_token: the contribution of the class token as a source, and of registers; zero without them [b, t].
        texts: the texts.
        pictured: of each image its picture, and where the model's input lies on it; None if nothing is known of any.
        cosine: the images' whole cosine similarities to the texts, of which the heads add :attr:`scores`; None for a
            contrast, or if they are not known [b, t].
        heads: (layer, head) pairs that are summed over; None for all; none for maps of several choices together.
    """

    values: Float[Tensor, "b t rows columns"]
    class_token: Float[Tensor, "b t"]
    texts: tuple[str, ...]
    pictured: tuple[Pictured, ...] | None = field(default=None, compare=False)
    cosine: Float[Tensor, "b t"] | None = None
    heads: tuple[tuple[int, int], ...] | None = None

    @property
    def scores(self) -> Float[Tensor, "b t"]:
        """What the chosen heads add to the cosine similarity."""
        return self.values.sum((-2, -1)) + self.class_token

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.values.shape[-2:]
        return rows, columns

    @classmethod
    def joined(cls, maps: Iterable[PatchTextMap]) -> PatchTextMap:
        """The maps of all images, one after another: of several batches, or of one image through different heads.

        Of several models too, if they have as many patches: each map stays on its own model's crop of the photograph.

        Raises:
            ValueError: if there are no maps, or they are of other texts or another number of patches.
        """
        every = list(maps)
        if not every:
            raise ValueError("There are no maps to join.")
        first = every[0]
        for each in every:
            if (each.texts, each.grid_size) != (first.texts, first.grid_size):
                raise ValueError(
                    f"Maps of texts {list(each.texts)} on {each.grid_size} patches do not join maps of "
                    f"{list(first.texts)} on {first.grid_size}: make them with the same texts and model."
                )
        values, class_token = ([getattr(each, name) for each in every] for name in ("values", "class_token"))
        pictured = tuple(own for each in every for own in each.of_each_image)
        known = [each.cosine for each in every if each.cosine is not None]
        cosine = torch.cat(known) if len(known) == len(every) else None
        heads = first.heads if all(each.heads == first.heads for each in every) else ()
        return cls(torch.cat(values), torch.cat(class_token), first.texts, pictured, cosine, heads)

    def select(self, images: Any) -> PatchTextMap:
        """The maps of some images, in the given order.

        Args:
            images: a slice or range, positions (negative ones count from the end), or a mask with one truth value per
                image.

        Raises:
            ValueError: if it is none of these.
            IndexError: if there is no such image, or the mask has another length.
        """
        rows = checked_indices("image", images, len(self.values)).to(self.values.device)
        pictured = None if self.pictured is None else tuple(self.pictured[row] for row in rows.tolist())
        cosine = None if self.cosine is None else self.cosine[rows]
        return replace(
            self, values=self.values[rows], class_token=self.class_token[rows], pictured=pictured, cosine=cosine
        )

    def contrast(self, text: str | None = None, other: str | None = None) -> PatchTextMap:
        """Each text's map minus the mean of the other texts' maps; or one text's map minus another's.

        Args:
            text, other: of the maps: the first minus the second is one map, "a dog rather than a cat".

        Raises:
            ValueError: if there is only one text, one of both is given alone or is none of the maps', or both are the
                same.
        """
        if text is None and other is None:
            values, class_token = _minus_others(self.values, 1), _minus_others(self.class_token, 1)
            return replace(self, values=values, class_token=class_token, cosine=None)
        if text == other or text not in self.texts or other not in self.texts:
            raise ValueError(f"A contrast is of two of the texts {list(self.texts)}, got {text!r} and {other!r}.")
        first, second = self.texts.index(text), self.texts.index(other)
        values, class_token = (each[:, first] - each[:, second] for each in (self.values, self.class_token))
        return PatchTextMap(
            values[:, None], class_token[:, None], (f"{text} rather than {other}",), self.pictured, heads=self.heads
        )

    def leading(self) -> LeadingTexts:
        """Which text leads at each patch: the one whose map stands highest above its own mean over the patches there.

        A text has to stand above its mean by half of its map's standard deviation; where none does, none leads.
        """
        return LeadingTexts(*leading(self.values), self.texts, self.pictured, self.heads)

    @property
    def of_each_image(self) -> tuple[Pictured, ...]:
        """:attr:`pictured`, of which nothing is known where that is None."""
        return (Pictured(),) * len(self.values) if self.pictured is None else self.pictured

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names: their files', or "image 0" and so on."""
        return tuple(each.name(i) for i, each in enumerate(self.of_each_image))

    def to_dataframe(self) -> pd.DataFrame:
        """One row per image, text and patch: image, name, text, row, column, score.

        In the last row of each image and text, row and column are -1: what the class token and registers add as
        sources. So the scores of an image and text sum to :attr:`scores`.
        """
        rows, columns = self.grid_size
        places = [(row, column) for row in range(rows) for column in range(columns)] + [(-1, -1)]
        every = torch.cat([self.values.flatten(2), self.class_token[..., None]], dim=-1).tolist()
        found = [
            (i, name, text, *place, score)
            for i, name in enumerate(self.names)
            for text, scores in zip(self.texts, every[i], strict=True)
            for place, score in zip(places, scores, strict=True)
        ]
        return pd.DataFrame(found, columns=["image", "name", "text", "row", "column", "score"])

    def __repr__(self) -> str:
        rows, columns = self.grid_size
        return (
            f"PatchTextMap(images={len(self.values)}, texts={list(self.texts)}, patches={rows} x {columns}, scores "
            f"from {float(self.scores.min()):+.4f} to {float(self.scores.max()):+.4f} in cosine units)"
        )


@dataclass(frozen=True)
class HeadTextScores(Shown):
    """What each source token adds, through each head, to one image's similarity to each text, in cosine units.

    Attributes:
        by_token: [l, h, n, t]; the class token and registers where there are any, then the patches row by row.
        cosine: the image's whole cosine similarity to each text [t]; MLPs and constants make up what heads do not.
        texts: the texts.
        grid_size: rows and columns of patches.
        pictured: the picture, and where the model's input lies on it; None if it is not known.
    """

    by_token: Float[Tensor, "l h n t"]
    cosine: Float[Tensor, " t"]
    texts: tuple[str, ...]
    grid_size: tuple[int, int]
    pictured: Pictured | None = field(default=None, compare=False)

    @property
    def scores(self) -> Float[Tensor, "l h t"]:
        """What each head adds to the cosine similarity."""
        return self.by_token.sum(2)

    @full_precision()
    def map(self, heads: Sequence[tuple[int, int]] | int | None = None) -> PatchTextMap:
        """The patch-text map of chosen heads, of all heads of a layer, or of all.

        Raises:
            ValueError: if ``heads`` are no pairs of whole numbers, or none.
            IndexError: if there is no such head.
        """
        layers, in_layer = self.by_token.shape[:2]
        chosen = torch.zeros(layers, in_layer, dtype=torch.bool) if heads is not None else torch.ones(layers, in_layer)
        pairs = None if heads is None else tuple(checked_heads(heads, layers, in_layer))
        for layer, head in pairs or ():
            chosen[layer, head] = True
        by_token = equations.over_heads(self.by_token, chosen.to(self.by_token))
        first = len(by_token) - math.prod(self.grid_size)
        return PatchTextMap(
            values=by_token[first:].T.unflatten(-1, self.grid_size)[None],
            class_token=by_token[:first].sum(0, keepdim=True),
            texts=self.texts,
            pictured=None if self.pictured is None else (self.pictured,),
            cosine=self.cosine[None],
            heads=pairs,
        )

    @property
    def name(self) -> str:
        """The image's name: its file's, or "image 0"."""
        return (self.pictured or Pictured()).name(0)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per head and text: layer, head, text, score (what the head adds to the cosine)."""
        layers, heads, _ = self.scores.shape
        found = [
            (layer, head, text, float(self.scores[layer, head, t]))
            for layer in range(layers)
            for head in range(heads)
            for t, text in enumerate(self.texts)
        ]
        return pd.DataFrame(found, columns=["layer", "head", "text", "score"])

    def __repr__(self) -> str:
        layers, heads = self.by_token.shape[:2]
        cosines = ", ".join(f"{text!r}: {float(at):+.4f}" for text, at in zip(self.texts, self.cosine, strict=True))
        return f"HeadTextScores(layers={layers}, heads={heads}, cosine={{{cosines}}})"


@takes_bridges
def patch_text_map(
    model: ImageTextModel,
    images: Any,
    texts: str | Sequence[str],
    heads: Sequence[tuple[int, int]] | int | None = None,
    batch_size: int = 16,
    *,
    constants: GivenConstants = "separate",
) -> PatchTextMap:
    """The score of each patch for each text, from a run of the model.

    Args:
        images: the path of a picture or of a folder, pictures, or preprocessed images [b, 3, height, width]; see
            :mod:`clip_lens_plugin.model.inputs.given`. The map draws itself on them.
        texts: any texts, or one.
        heads: (layer, head) pairs to sum over, or a layer for all heads of it; all heads if not given.
        batch_size: images in a run.
        constants: "separate", or "shared": then a head's share of them is part of its scores, in equal parts by token.

    Raises:
        ValueError: if there is no image, no text or no head, ``batch_size`` is no whole number of at least 1,
            ``constants`` is neither word, or hooks were left on the model.
        PixelError: if the images are neither pictures nor a floating-point tensor of the model's shape, or hold NaN or
            infinity; doubtful pixels are a warning.
        UnreadableImageError: a ValueError, if a picture cannot be used; the message names it.
        IndexError: if there is no such head.
    """
    batch_size = checked_number("batch_size", batch_size)
    refuse_left_hooks(model, "patch_text_map is of the model as it is")
    texts = checked_texts("A patch-text map", [texts] if isinstance(texts, str) else texts)
    given = followed(given_images(model, images))
    pairs = None if heads is None else tuple(model.cfg.checked_heads(heads))
    chosen = _head_mask(model, pairs)
    embeddings = model.encode_text(texts)
    parts, cosines = [], []
    with given.checked():
        for start in range(0, len(given), batch_size):
            pixels = given.pixels(slice(start, start + batch_size))
            scores, cosine = scores_and_cosine(model, pixels, embeddings, constants)
            cosines.append(cosine)
            with full_precision():
                parts.append(equations.over_heads(scores, chosen.to(scores)).transpose(1, 2))
    by_token = torch.cat(parts)
    return PatchTextMap(
        values=by_token[..., model.cfg.n_prefix_tokens :].unflatten(-1, model.cfg.grid_size),
        class_token=by_token[..., : model.cfg.n_prefix_tokens].sum(-1),
        texts=tuple(texts),
        pictured=pictured_of(given),
        cosine=torch.cat(cosines),
        heads=pairs,
    )


@takes_bridges
def head_text_scores(
    model: ImageTextModel,
    image: Any,
    texts: str | Sequence[str],
    *,
    constants: GivenConstants = "separate",
) -> HeadTextScores:
    """The score of each token of each head for each text, from a run of the model on one image.

    Args:
        image: the path of a picture, a picture, or a preprocessed image [3, height, width].
        texts: any texts, or one.
        constants: see :func:`patch_text_map`.

    Raises:
        ValueError: if there is no text, ``constants`` is neither word, or hooks were left on the model.
        PixelError: if the image is neither a picture nor a floating-point tensor of the model's shape, or holds NaN or
            infinity; doubtful pixels are a warning.
        UnreadableImageError: a ValueError, if the picture cannot be used.
    """
    refuse_left_hooks(model, "head_text_scores is of the model as it is")
    texts = checked_texts("head_text_scores", [texts] if isinstance(texts, str) else texts)
    given = followed(given_image(model, image))
    batch = given.pixels(slice(None))
    with given.checked():
        embeddings = model.encode_text(texts)
        by_token, cosine = scores_and_cosine(model, batch, embeddings, constants)
    return HeadTextScores(by_token[0], cosine[0], tuple(texts), model.cfg.grid_size, *pictured_of(given))


@takes_bridges
def extreme_descriptions(
    model: ImageTextModel,
    image: Any,
    span: HeadSpan,
    *,
    constants: GivenConstants | None = None,
) -> tuple[PatchTextMap, tuple[str, str]]:
    """A head's maps of the two of its TextSpan texts that are most and least similar to what it writes for an image.

    Source: figure 6 of the paper; similarity is the head's score, its contribution's dot product with the text.

    Args:
        image: the path of a picture, a picture, or a preprocessed image [3, height, width].
        span: the head's texts.
        constants: those of the contributions that the texts describe, if not given; see :func:`patch_text_map`.

    Returns:
        The maps of that head for both texts, and what each is: "most similar", "least similar".

    Raises:
        ValueError: if the head has fewer than two texts.
        PixelError: see :func:`head_text_scores`.
    """
    if len(span.texts) < 2:
        raise ValueError(
            f"Layer {span.layer}, head {span.head} has {len(span.texts)} text(s); the most and the least similar need "
            f"two or more."
        )
    head, constants = (span.layer, span.head), span.constants if constants is None else constants
    given = followed(given_image(model, image))
    batch = given.pixels(slice(None))
    with given.checked():
        found = decompose_images(model, batch, constants=constants).normalized()
        scores = found.towards(model.encode_text(span.texts))[0, *head]
        picked = [span.texts[int(scores.argmax())], span.texts[int(scores.argmin())]]
        maps = patch_text_map(model, batch, picked, heads=[head], constants=constants)
        return replace(maps, pictured=pictured_of(given)), ("most similar", "least similar")


def _minus_others(values: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    n = values.shape[dim]
    if n < 2:
        raise ValueError("A contrast needs two or more texts: each is shown against the mean of the others.")
    return values - (values.sum(dim, keepdim=True) - values) / (n - 1)


def _head_mask(model: ImageTextModel, pairs: tuple[tuple[int, int], ...] | None) -> Float[Tensor, "l h"]:
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    mask = torch.ones(n_layers, n_heads) if pairs is None else torch.zeros(n_layers, n_heads)
    for pair in pairs or ():
        mask[pair] = 1.0
    return mask
