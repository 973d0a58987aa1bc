"""What only towers of some families have beside the parts that all have: an attention pool's own, a norm's after W_O.

Each is declared here once; a pooling or a norm makes it, :class:`~clip_lens_plugin.decomposition.parts.parts.Parts`
carries it, and whoever lists or sums components goes through this.
"""

from __future__ import annotations

from typing import NamedTuple

from clip_lens_plugin.model.protocol import Tower


class Extra(NamedTuple):
    """A component that only some families have [e].

    Attributes:
        words: what pages call it.
        short: the same where there is little room.
        is_constant: whether it is one of the constants that may be shared out, so that it is zero then.
    """

    words: str
    short: str
    is_constant: bool


COMPONENTS = {
    "pool_bias": Extra("attention pool's biases", "pool bias", is_constant=True),
    "pool_mlp": Extra("attention pool's MLP", "pool MLP", is_constant=False),
}
"""By the name that tables, stores and contributions have for it, in the order in which they are listed.

:attr:`Pooling.parts` says which a pooling adds, and :meth:`Pooling.own_parts` makes them.
"""

BIAS_WEIGHT = "bias_weight"
"""No component, but the weight [l, p] of one: Σ_q ω over the scale of a norm after W_O, for a part of each bias."""


def extras_of(model: Tower) -> tuple[str, ...]:
    """The names of what a model has, in order."""
    added = tuple(name for name in COMPONENTS if name in model.pooling.parts)
    return added if model.blocks[0].attn.out.outer is None else (*added, BIAS_WEIGHT)
