"""What is asked about heads: which of them, on which moments, by which model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from clip_lens_plugin.arguments import checked_choice, checked_heads
from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.decomposition.constants import GivenConstants, checked_constants
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.layers.config import HookedCLIPConfig
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.statistics.moments import Moments, late_layers
from clip_lens_plugin.warned import warn

Heads = Literal["late", "all"] | Iterable[tuple[int, int]]


class AskedHeads(NamedTuple):
    """The model's folded weights, moments that are of it, and the (layer, head) pairs asked about."""

    readout: Readout
    moments: Moments
    heads: list[tuple[int, int]]


def asked_heads(model: ImageModel, data: Any, heads: Heads, constants: GivenConstants | None = None) -> AskedHeads:
    """Moments of the heads that are asked about, before texts are embedded, which takes long.

    Args:
        model: of the moments.
        data: :class:`Moments`; or contributions, a store or its path, or images, in cosine units then.
        heads: "late", "all", or (layer, head) pairs.
        constants: that the moments should have; not checked if not given.

    Raises:
        ValueError: if there are fewer than two images, there is no head, the moments are of another model, their
            constants are not those asked for, or they are of some layers alone and another one was asked for.
        IndexError: if there is no such head.
    """
    readout = Readout.of(model)
    chosen = chosen_heads(heads, model.cfg)
    moments = data if isinstance(data, Moments) else Moments.of(data_of(data, model), {layer for layer, _ in chosen})
    _refuse_other_moments(readout, moments, constants)
    for layer in dict.fromkeys(layer for layer, _ in chosen):
        moments.refuse_left_out(layer)
    return AskedHeads(readout, moments, chosen)


def chosen_heads(heads: Heads, cfg: HookedCLIPConfig) -> list[tuple[int, int]]:
    """The (layer, head) pairs.

    Raises:
        ValueError, IndexError: if they are none.
    """
    if isinstance(heads, str):
        checked_choice("heads", heads, ("late", "all"))
        layers = range(cfg.n_layers) if heads == "all" else late_layers(cfg.n_layers)
        return [(l, h) for l in layers for h in range(cfg.n_heads)]
    return checked_heads(heads, cfg.n_layers, cfg.n_heads)


def warn_of_constant(heads: list[tuple[int, int]], n: int) -> None:
    """Says which heads write the same for all n images: no text describes them."""
    if heads:
        named = ", ".join(f"layer {layer}, head {head}" for layer, head in heads[:3])
        rest = f" and {len(heads) - 3} more" if len(heads) > 3 else ""
        warn(
            f"What the following heads write is the same for all {n} images, but for rounding, so no text describes "
            f"how it varies: {named}{rest}."
        )


def _refuse_other_moments(readout: Readout, moments: Moments, constants: GivenConstants | None) -> None:
    asked = moments.constants if constants is None else checked_constants(constants)
    if asked != moments.constants:
        raise ValueError(
            f"The moments are of contributions with constants={moments.constants!r}, but constants={asked!r} was asked "
            f"for. Decompose the images so: Moments.from_contributions(model.decompose(images, constants={asked!r}))."
        )
    shape = (len(readout.W_O), readout.n_heads, readout.n_coordinates(moments.constants))
    if tuple(moments.sum_y.shape) != shape:
        raise ValueError(
            f"The moments are of a model with [layers, heads, coordinates] = {list(moments.sum_y.shape)}, but "
            f"{readout.model.cfg.model_name} has {list(shape)}. Collect them with this model."
        )
    if moments.n < 2:
        raise ValueError(f"Texts of heads need the moments of at least two images, got {moments.n}.")
