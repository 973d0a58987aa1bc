"""Saliency maps by name of the method: ours and the published ones, from one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number, checked_texts
from clip_lens_plugin.maps.pictured import followed, pictured_of
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.hooks.interventions import refuse_hooks
from clip_lens_plugin.model.inputs.given import GivenImages, given_image, given_images
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.numerics.unit_vectors import checked_unit_vectors
from clip_lens_plugin.saliency.methods import PLAIN, SaliencyMethod, resolved_method
from clip_lens_plugin.saliency.result import SaliencyMap

Texts = str | Sequence[str] | Float[Tensor, "e"] | Float[Tensor, "t e"]


class _Named(NamedTuple):
    """Texts and their unit embeddings."""

    names: tuple[str, ...]
    embeddings: Float[Tensor, "t e"]


@takes_bridges
def saliency_map(
    model: ImageTextModel,
    image: Any,
    text: Texts | None = None,
    method: str | SaliencyMethod = "patch_text",
    *,
    against: Texts | None = None,
) -> SaliencyMap:
    """Where in an image a method sees a text.

    The methods, with who published each, are in :data:`~clip_lens_plugin.saliency.methods.METHODS`: "patch_text" and
    "last_layers" are this package's own. All that take a text are given the same target: the cosine with the text, or
    with ``against``, that less the mean cosine with those texts.

    Parameters get no gradients, and it works under ``torch.no_grad`` and ``torch.inference_mode``.

    Args:
        image: the path of a picture, a picture, or a preprocessed image [3, height, width].
        text: one or more texts, or their unit embeddings [e] or [t, e]; not needed where the method looks at none.
        method: the name of one, or a method of your own.
        against: texts to contrast each text with, or their unit embeddings.

    Raises:
        ValueError: if there is no such method, it needs a text and there is none, a text is none, an embedding is of
            another width or no unit vector, nothing is left of a text after the contrast, or hooks are on the model.
        PixelError: if the image is neither a picture nor a floating-point tensor of the model's shape, or holds NaN or
            infinity; doubtful pixels are a warning.
        UnreadableImageError: a ValueError, if the picture cannot be used.
    """
    return _mapped(model, given_image(model, image), text, method, against, 1)[0]


@takes_bridges
def saliency_maps(
    model: ImageTextModel,
    images: Any,
    texts: Texts | None = None,
    method: str | SaliencyMethod = "patch_text",
    *,
    against: Texts | None = None,
    batch_size: int = 16,
) -> list[SaliencyMap]:
    """The same for each of several images, all with the same texts.

    Args:
        model: as for :func:`saliency_map`.
        images: the path of a picture or of a folder, pictures, or preprocessed images [b, 3, height, width].
        texts, method, against: see :func:`saliency_map`.
        batch_size: images in a run; methods with gradients may take fewer.

    Raises:
        ValueError, PixelError, UnreadableImageError: as :func:`saliency_map`; also if there is no image, or
            ``batch_size`` is no whole number of at least 1.
    """
    return _mapped(model, given_images(model, images), texts, method, against, checked_number("batch_size", batch_size))


def _mapped(
    model: ImageTextModel,
    images: GivenImages,
    texts: Texts | None,
    method: str | SaliencyMethod,
    against: Texts | None,
    batch_size: int,
) -> list[SaliencyMap]:
    chosen, given = resolved_method(method), followed(images)
    refuse_hooks(model, PLAIN)
    named, others = _named(model, chosen, texts), None if against is None else _embedded(model, "against", against)
    parts = []
    with given.checked():
        for start in range(0, len(given), batch_size):
            pixels = given.pixels(slice(start, start + batch_size)).to(model.cfg.device, model.cfg.dtype)
            parts.append(
                _of_batch(model, chosen, pixels, named.embeddings, None if others is None else others.embeddings)
            )
    height, width = model.cfg.image_size
    return [
        SaliencyMap(
            values=values,
            texts=named.names,
            method=chosen.name,
            title=chosen.title or chosen.name,
            input_size=(width, height),
            against=others.names if others is not None and chosen.takes_text else (),
            pictured=pictured,
        )
        for values, pictured in zip(torch.cat(parts), pictured_of(given), strict=True)
    ]


def _of_batch(
    model: ImageTextModel,
    method: SaliencyMethod,
    pixels: Float[Tensor, "b 3 height width"],
    texts: Float[Tensor, "t e"],
    against: Float[Tensor, "c e"] | None,
) -> Float[Tensor, "b t rows columns"]:
    others = None if against is None else against.expand(len(pixels), -1, -1)
    return torch.stack([method.maps(model, pixels, text.expand(len(pixels), -1), others) for text in texts], dim=1)


def _named(model: ImageTextModel, method: SaliencyMethod, texts: Texts | None) -> _Named:
    """The texts that the method looks at; without names, and any embedding, where it looks at none."""
    if not method.takes_text:
        return _Named((), torch.zeros(1, model.cfg.d_embed, device=model.cfg.device, dtype=model.cfg.dtype))
    if texts is None:
        raise ValueError(f"The method {method.name!r} maps a text: give one, saliency_map(model, image, 'a dog').")
    return _embedded(model, "A saliency map", texts)


def _embedded(model: ImageTextModel, name: str, given: Texts) -> _Named:
    if not isinstance(given, Tensor):
        texts = checked_texts(name, [given] if isinstance(given, str) else given)
        return _Named(tuple(texts), model.encode_text(texts))
    rows = given[None] if given.ndim == 1 else given
    if rows.ndim != 2 or rows.shape[-1] != model.cfg.d_embed or not len(rows) or not rows.is_floating_point():
        raise ValueError(
            f"{name} takes texts, or their embeddings [texts, {model.cfg.d_embed}] as model.encode_text makes them, "
            f"got a tensor {list(given.shape)} of {given.dtype}."
        )
    return _Named(tuple(f"text {i}" for i in range(len(rows))), checked_unit_vectors(rows).to(model.cfg.device))
