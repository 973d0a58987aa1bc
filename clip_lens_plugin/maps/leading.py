"""Which text leads at each patch: a segmentation of an image by texts, through chosen heads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.maps.pictured import Pictured
from clip_lens_plugin.shown import Shown

CLEAR = 0.5
"""Standard deviations of a text's map over the patches, by which it stands above its mean where it leads clearly."""


def leading(
    values: Float[Tensor, "b t rows columns"],
) -> tuple[Int[Tensor, "b rows columns"], Float[Tensor, "b rows columns"]]:
    """The text that leads at each patch, −1 for none, and how far its map stands above its own mean there, else 0.

    ``argmax_t m_t − E[m_t]`` over the texts with ``m_t − E[m_t] > CLEAR · std(m_t)``, means and deviations over the
    patches of an image. So a text that is near to the whole picture does not lead everywhere. Of equals the first.
    """
    away = values.double() - values.double().mean((-2, -1), keepdim=True)
    deviation = away.square().mean((-2, -1), keepdim=True).sqrt()
    above, texts = torch.where(away > CLEAR * deviation, away, 0.0).max(dim=1)
    return torch.where(above > 0, texts, -1), above


@dataclass(frozen=True, repr=False)
class LeadingTexts(Shown):
    """Which text leads at each patch, see :meth:`~clip_lens_plugin.maps.patch_text.PatchTextMap.leading`.

    Attributes:
        leads: position of the text that leads among the texts, −1 for none [b, rows, columns].
        above: how far its map stands above its own mean over the patches, in cosine units; 0 for none.
        texts: the texts.
        pictured: as of :class:`~clip_lens_plugin.maps.patch_text.PatchTextMap`.
        heads: (layer, head) pairs that the maps sum over; None for all.
    """

    leads: Int[Tensor, "b rows columns"]
    above: Float[Tensor, "b rows columns"]
    texts: tuple[str, ...]
    pictured: tuple[Pictured, ...] | None = field(default=None, compare=False)
    heads: tuple[tuple[int, int], ...] | None = None

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.leads.shape[-2:]
        return rows, columns

    @property
    def of_each_image(self) -> tuple[Pictured, ...]:
        """:attr:`pictured`, of which nothing is known where that is None."""
        return (Pictured(),) * len(self.leads) if self.pictured is None else self.pictured

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names: their files', or "image 0" and so on."""
        return tuple(each.name(i) for i, each in enumerate(self.of_each_image))

    def patches(self, image: int) -> Counter[int]:
        """At how many patches of an image each text leads, by its position; and at how many none does, −1."""
        return Counter(self.leads[image].flatten().tolist())

    def to_dataframe(self) -> pd.DataFrame:
        """One row per image and patch: image, name, row, column, text (none where no text leads), above."""
        rows, columns = self.grid_size
        leads, above = self.leads.tolist(), self.above.tolist()
        found = [
            (i, name, row, column, None if leads[i][row][column] < 0 else self.texts[leads[i][row][column]], height)
            for i, name in enumerate(self.names)
            for row in range(rows)
            for column, height in enumerate(above[i][row][:columns])
        ]
        return pd.DataFrame(found, columns=["image", "name", "row", "column", "text", "above"])

    def __repr__(self) -> str:
        rows, columns = self.grid_size
        counts = Counter(self.leads.flatten().tolist())
        counted = ", ".join(f"{text!r}: {counts[t]}" for t, text in enumerate(self.texts))
        return (
            f"LeadingTexts(images={len(self.leads)}, patches={rows} x {columns}, leading at {{{counted}}}, none at "
            f"{counts[-1]})"
        )
