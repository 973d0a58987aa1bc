"""Text labels with their embeddings: to a CLIP what the vocabulary is to a language model."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_index, checked_indices, is_whole
from clip_lens_plugin.model.identity.probes import PROBE_TOLERANCE
from clip_lens_plugin.numerics.unit_vectors import checked_unit_vectors

MOST_SEARCHED = 10_000
"""How many names are searched for one like a misspelt one: the search then takes about a second."""


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """The same names.

    Raises:
        ValueError: if there are none, or one occurs twice.
    """
    if not names:
        raise ValueError("Labels need at least one name; none were given.")
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise ValueError(f"Each label must occur once; these occur more often: {twice}.")
    return tuple(names)


@dataclass(frozen=True)
class Labels:
    """Names and unit text embeddings, row for row.

    Attributes:
        names: each once.
        embeddings: unit vectors.
        probe: what the text tower that gave the embeddings gave for a few fixed texts [p, e]; None where they are the
            user's own.
        rounded_to: the coarsest dtype that the embeddings, or the tower's weights, have had since.

    Raises:
        ValueError: if there are no names, a name occurs twice, or the rows do not match the names, hold NaN or infinite
            values, or are no unit vectors.
    """

    names: tuple[str, ...]
    embeddings: Float[Tensor, "t e"]
    probe: Float[Tensor, "p e"] | None = field(default=None, repr=False, compare=False)
    rounded_to: torch.dtype | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked_names(self.names)
        if len(self.embeddings) != len(self.names):
            raise ValueError(f"{len(self.names)} labels need as many embeddings, got {len(self.embeddings)}.")
        checked_unit_vectors(self.embeddings, "The labels' embeddings")

    def converted(self, embeddings: Float[Tensor, "t e"]) -> Labels:
        """The same labels with their embeddings on another device or in another dtype."""
        dtypes = (embeddings.dtype, self.rounded_to or self.embeddings.dtype)
        return replace(self, embeddings=embeddings, rounded_to=max(dtypes, key=PROBE_TOLERANCE.__getitem__))

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """Position of a label.

        Raises:
            ValueError: if there is no such label, or it is no text; the nearest ones are suggested.
        """
        if not isinstance(name, str):
            raise ValueError(f"A label is a text, got {name!r:.60}.")
        if name not in self._positions:
            near = difflib.get_close_matches(name, self.names[:MOST_SEARCHED], n=3)
            hint = f" Did you mean {near}?" if near else f" There are {len(self.names)} labels."
            raise ValueError(f"{name!r} is not among the labels.{hint} Set them with set_labels.")
        return self._positions[name]

    def indices(self, tokens: Any) -> int | Int[Tensor, "..."]:
        """Positions of labels that are given by name or already by position.

        Args:
            tokens: a label, several in a list, tuple or array, or positions; negative ones count from the end.

        Raises:
            ValueError: for an unknown name, or what is neither a label nor a whole number.
            IndexError: for a position outside the labels.
        """
        if isinstance(tokens, str):
            return self.index(tokens)
        if is_whole(tokens) or (isinstance(tokens, Tensor) and tokens.ndim == 0):
            return checked_index("label", tokens, len(self.names))
        given: Any = tokens
        if isinstance(given, list | tuple | np.ndarray) and any(isinstance(each, str) for each in given):
            given = [self.index(each) for each in given]
        device = self.embeddings.device
        if isinstance(given, Tensor) and given.ndim > 1:
            return checked_indices("label", given.flatten(), len(self.names)).reshape(given.shape).to(device)
        return checked_indices("label", given, len(self.names)).to(device)
