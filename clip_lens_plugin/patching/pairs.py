"""The two sides of a patched run, input by input: images, or texts of a text tower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.model.bridged import resolved_tower
from clip_lens_plugin.model.hooks.interventions import refuse_left_hooks
from clip_lens_plugin.model.inputs.given import GivenImages
from clip_lens_plugin.model.inputs.of_tower import Given, given_to
from clip_lens_plugin.model.inputs.pixels import look, once_a_call, unlooked
from clip_lens_plugin.model.protocol import Tower


@dataclass(frozen=True)
class Pairs:
    """b pairs of inputs.

    Attributes:
        corrupted, clean: images, or texts.
    """

    corrupted: Given
    clean: Given

    def __len__(self) -> int:
        return len(self.corrupted)

    def rows(self, rows: slice) -> tuple[Tensor, Tensor]:
        """What the model takes of some pairs: corrupted and clean."""
        return self.corrupted.pixels(rows), self.clean.pixels(rows)

    def parts(self, size: int) -> list[slice]:
        """All rows, so many at a time."""
        return [slice(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Looks at all given pixels once, which inside are not looked at again.

        Raises:
            PixelError: if they are none, or hold NaN or infinity.
        """
        with once_a_call():
            for side in (self.corrupted, self.clean):
                if isinstance(side, GivenImages) and side.tensor is not None:
                    look(side.model, side.tensor)
        with unlooked():
            yield

    def embeddings(self, model: Tower, size: int) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b e"]]:
        """The model's own, of corrupted and of clean inputs, from runs of ``size``."""
        with torch.no_grad():
            runs = [[model(given) for given in self.rows(rows)] for rows in self.parts(size)]
        corrupted, clean = (torch.cat(side) for side in zip(*runs, strict=True))
        return corrupted, clean


def given_pairs(model: Any, corrupted: Any, clean: Any) -> tuple[Tower, Pairs]:
    """The model, a bridge's where one was given, and its inputs in pairs.

    Raises:
        TypeError: if the model is none.
        PixelError, ValueError: see :func:`~clip_lens_plugin.model.inputs.given.given_images` and
            :meth:`~clip_lens_plugin.model.text.hooked_text.HookedText.to_tokens`; a ValueError if there are more of the
            one than of the other, or hooks were left on the model.
    """
    tower = resolved_tower(model)
    refuse_left_hooks(tower, "Patching is of the model as it is")
    pairs = Pairs(*(given_to(tower, each)[1] for each in (corrupted, clean)))
    if len(pairs.corrupted) != len(pairs.clean):
        raise ValueError(
            f"Each corrupted input is patched from the clean one at the same place, got {len(pairs.corrupted)} "
            f"corrupted and {len(pairs.clean)} clean: give as many of both."
        )
    return tower, pairs
