"""Moments of disjoint parts of the images, of which a bootstrap draws: how far picks depend on the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.describe.asked import AskedHeads, Heads, asked_heads
from clip_lens_plugin.higher_order.neurons.moments_size import in_gigabytes
from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.statistics.part_moments import PartMoments, parts_bytes

FEWEST_PARTS = 10
"""A bootstrap of fewer says little."""

MOST_BYTES = 2 * 10**9
"""The moments of all parts may be so large, where they are taken of rows."""


class AskedInParts(NamedTuple):
    """Heads that are asked about, and the parts of the images.

    Attributes:
        asked: the heads, and the moments of all images.
        parts: disjoint, together all of them; none where they are not known.
        of: what they are, in words.
    """

    asked: AskedHeads
    parts: tuple[Moments, ...]
    of: str


def asked_in_parts(model: ImageModel, data: Any, heads: Heads) -> AskedInParts:
    """The heads and the parts of the data.

    Args:
        model: of the data.
        data: moments, whose parts are not known; a list of moments of disjoint parts; or contributions, a store or its
            path, or images.
        heads: see :func:`~clip_lens_plugin.describe.asked.asked_heads`.

    Raises:
        ValueError, IndexError: as :func:`~clip_lens_plugin.describe.asked.asked_heads`; or if parts do not add.
    """
    if isinstance(data, Moments):
        return AskedInParts(asked_heads(model, data, heads), (), "unknown, since one Moments has no parts")
    if isinstance(data, list | tuple) and data and all(isinstance(each, Moments) for each in data):
        return _with_parts(asked_heads(model, summed(data), heads), data)
    found = data_of(data, model)
    asked = asked_heads(model, found, heads)
    layers = sorted({layer for layer, _ in asked.heads})
    kept = found.part_moments
    if not kept or not all(each.layers is None or set(layers) <= set(each.layers) for each in kept):
        if not found.has_rows:
            return AskedInParts(asked, (), "unknown, since the store has neither parts of these layers nor rows")
        if _parts_size(asked.moments, len(layers)) > MOST_BYTES:
            fewer = hint("heads= of fewer layers", "--heads late")
            why = f"unknown, since parts of {len(layers)} layers would take more than {in_gigabytes(MOST_BYTES)}"
            return AskedInParts(asked, (), f"{why}: ask for {fewer}")
        kept = PartMoments.of_rows(found, layers)
    return _with_parts(asked, kept)


def summed(parts: Sequence[Moments]) -> Moments:
    """The moments of all parts together.

    Raises:
        ValueError: if they do not add.
    """
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def _with_parts(asked: AskedHeads, parts: Sequence[Moments]) -> AskedInParts:
    if len(parts) < FEWEST_PARTS:
        return AskedInParts(asked, (), f"unknown, since {len(parts)} parts are too few")
    return AskedInParts(asked, tuple(parts), f"{len(parts)} parts of the images")


def _parts_size(moments: Moments, n_layers: int) -> int:
    l, h, k = moments.sum_y.shape
    return parts_bytes(l, n_layers, h, k)
