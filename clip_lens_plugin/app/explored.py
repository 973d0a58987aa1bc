"""What is explored: a model, the contributions of pictures, and the pictures themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.ablation import activation_means
from clip_lens_plugin.app.heads.about_heads import AboutHeads
from clip_lens_plugin.app.last_used import LastUsed
from clip_lens_plugin.app.neurons.kept_neurons import KeptNeurons
from clip_lens_plugin.bars import Bars
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.describe.embedded import EmbeddedTexts
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.plain_text import printable
from clip_lens_plugin.report.pictures import Pictures
from clip_lens_plugin.statistics.means import ComponentSums
from clip_lens_plugin.texts.fitting import pool_for

if TYPE_CHECKING:
    from PIL import Image

    from clip_lens_plugin.groups.effects import GroupEffects
    from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

MOST_LISTS = 32
"""Lists of texts, of which embeddings are kept."""

MOST_FOR_TOKEN_MEANS = 64
"""Pictures of which activations are averaged at every token, for total effects; they are run once."""


@dataclass(frozen=True)
class Spelled:
    """How a script of the reader's own gets what is explored; each is Python.

    Attributes:
        opening: the lines that make ``model``, ``data`` and ``images``.
        picture: a row's picture as an expression.
        effects: the lines that make ``effects``, those of groups; empty where there are none.
    """

    opening: str
    picture: Callable[[int], str]
    effects: str = ""


@dataclass(frozen=True)
class Explored:
    """What the pages ask.

    Attributes:
        model: the model.
        data: contributions of the pictures, one row for each.
        pictures: of the rows; some may be out of reach.
        spelled: how a script gets the same.
        classifier: of the rows' labels, None where they have none.
        effects: of groups, for the cue of heads; None where none were given.
        neurons: what was found of neurons last.
    """

    model: HookedCLIP
    data: Data
    pictures: Pictures
    spelled: Spelled
    classifier: ZeroShotClassifier | None = None
    effects: GroupEffects | None = None
    _texts: LastUsed[Tensor] = field(default_factory=lambda: LastUsed(MOST_LISTS), repr=False, compare=False)
    neurons: KeptNeurons = field(default_factory=KeptNeurons, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.data)

    def name(self, row: int) -> str:
        """The name of a picture."""
        return f"image {row}" if self._names is None else printable(self._names[row])

    def photograph(self, row: int) -> Photograph:
        """The picture of a row: as it was photographed, or what the model sees of it.

        Raises:
            ValueError: if it is not in reach.
        """
        if row not in self.pictures:
            raise ValueError(f"The picture of {self.name(row)} is not in reach: give the data set with --images.")
        found = self.pictures.photograph(row)
        if found is None:
            found = self.seen([row])[row]
        return Photograph(found, self.name(row))

    def seen(self, rows: list[int]) -> dict[int, Image.Image]:
        """What the model sees of some rows; those whose picture is not in reach are left out."""
        return self.pictures.shown(rows, self.model.preprocess)

    def embedded(self, texts: tuple[str, ...]) -> Float[Tensor, "t e"]:
        """Unit embeddings of texts; those of the last lists that were typed are kept."""
        return self._texts.of(texts, lambda: self.model.encode_text(list(texts)))

    @cached_property
    def pool(self) -> EmbeddedTexts:
        """Texts that describe, those that fit the model; embedding them takes long the first time."""
        pool, of_what = pool_for(self.model.cfg.model_name)
        with Bars(visible=False) as bars:
            task = bars.add_task(f"reading {len(pool):,} {of_what}", total=len(pool))
            found = pool.embed(self.model, on_progress=lambda done, total: bars.update(task, completed=done))
        return EmbeddedTexts(pool, found)

    def in_reach(self, most: int) -> list[int]:
        """The first rows whose pictures are in reach."""
        return list(islice((row for row in range(len(self)) if row in self.pictures), most))

    @cached_property
    def heads(self) -> AboutHeads:
        """What the heads do over all pictures."""
        return AboutHeads(self.model, self.data, lambda: self.pool, self.classifier, self.effects)

    @cached_property
    def _names(self) -> tuple[str, ...] | None:
        return self.data.names

    def read_ahead(self) -> None:
        """Reads what every search needs ahead; data keep it, so the first search is as fast as the next."""
        with suppress(ValueError, OSError):  # A page that needs what cannot be read says so.
            for _ in self.data.head_blocks([(self.model.cfg.n_layers - 1, 0)]):
                pass
            _ = self.sums, self._names

    @cached_property
    def sums(self) -> ComponentSums:
        """The sum of every component over the rows, in cosine units."""
        return ComponentSums.of(self.data)

    @cached_property
    def token_means(self) -> dict[str, Tensor]:
        """The mean at every token of what layers write, over the first pictures that are in reach."""
        rows = self.in_reach(MOST_FOR_TOKEN_MEANS)
        if not rows:
            raise ValueError("No picture is in reach to take means from: choose zero, or give --images.")
        layers = range(self.model.cfg.n_layers)
        points = ("attn.hook_z", "hook_attn_out", "hook_mlp_out")
        names = [f"blocks.{layer}.{point}" for layer in layers for point in points]
        pictures = [self.photograph(row).open() for row in rows]
        return activation_means(self.model, pictures, names, batch_size=8)
