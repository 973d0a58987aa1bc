"""The last results on neurons, so that the next texts or pictures wait for no run of all pictures."""

from __future__ import annotations

from dataclasses import dataclass, field

from clip_lens_plugin.app.asked import Asked
from clip_lens_plugin.app.last_used import LastUsed
from clip_lens_plugin.higher_order.neurons.neurons import SecondOrder
from clip_lens_plugin.retrieval.strongest import StrongestNeurons

MOST_LAYERS, MOST_PICTURES, MOST_FOUND = 2, 8, 32
"""Layers with effects on all pictures, up to 0.25 GB each; single pictures, a few MB each; and layers in words."""


@dataclass(frozen=True)
class KeptNeurons:
    """Effects and words of the last layers that were asked about.

    Attributes:
        effects: on the pictures in reach, by layer.
        of_picture: on one picture that was asked about, by its identity and layer; it is held, so that its identity
            stays its own.
        found: the strongest of a layer, by layer.
    """

    effects: LastUsed[SecondOrder] = field(default_factory=lambda: LastUsed(MOST_LAYERS))
    of_picture: LastUsed[tuple[Asked, SecondOrder]] = field(default_factory=lambda: LastUsed(MOST_PICTURES))
    found: LastUsed[StrongestNeurons] = field(default_factory=lambda: LastUsed(MOST_FOUND))
