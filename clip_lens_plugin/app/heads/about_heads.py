"""What the heads do over all pictures: each worked out when it is first asked for, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from clip_lens_plugin.app.last_used import LastUsed
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.decomposition.parts.component_shares import Shares
from clip_lens_plugin.describe.class_heads import class_heads
from clip_lens_plugin.describe.class_result import ClassHeads
from clip_lens_plugin.describe.embedded import EmbeddedTexts
from clip_lens_plugin.describe.spans import TextSpanResult, text_span
from clip_lens_plugin.groups.effects import GroupEffects
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.report.clearest import clarity
from clip_lens_plugin.retrieval import extreme_images
from clip_lens_plugin.retrieval.found import ExtremeImages
from clip_lens_plugin.roles.finding import head_roles
from clip_lens_plugin.roles.result import HeadRoles
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

N_TEXTS, TEXTS_WITH_IMAGES, IMAGES_OF_TEXT = 8, 3, 4
"""Texts of a head; those of them with images, and images of either side."""

MOST_KEPT = 64
"""Heads of which texts and images are kept."""


@dataclass(frozen=True)
class Described:
    """A head's texts.

    Attributes:
        spans: of this head alone.
        beside_chance: what the first of them explain, and random directions; no row where there is no text.
    """

    spans: TextSpanResult
    beside_chance: pd.DataFrame


@dataclass(eq=False)
class AboutHeads:
    """The heads of a model on pictures.

    Attributes:
        model: whose heads they are.
        data: contributions of the pictures.
        texts: gives those that describe heads, with themes; embedding them takes long the first time.
        classifier: of the pictures' classes, None where they have none.
        effects: of groups of the pictures, None where there are none.
    """

    model: HookedCLIP
    data: Data
    texts: Callable[[], EmbeddedTexts]
    classifier: ZeroShotClassifier | None = None
    effects: GroupEffects | None = None
    _described: LastUsed[Described] = field(default_factory=lambda: LastUsed(MOST_KEPT), repr=False)
    _images: LastUsed[ExtremeImages] = field(default_factory=lambda: LastUsed(MOST_KEPT), repr=False)

    @cached_property
    def shares(self) -> Shares:
        """Each component's share of the embedding."""
        return Shares(self.data.shares())

    @cached_property
    def roles(self) -> HeadRoles:
        """The roles of the late heads, beside chance."""
        texts = self.texts()
        return head_roles(self.model, self.data, texts.pool, text_embeddings=texts.embeddings)

    @property
    def has_roles(self) -> bool:
        """Whether the roles are worked out already."""
        return "roles" in vars(self)

    @cached_property
    def classes(self) -> ClassHeads:
        """How much of each head the classes explain, beside chance.

        Raises:
            ValueError: if the pictures have no classes.
        """
        if self.classifier is None:
            raise ValueError(
                "These pictures have no classes, so nothing says what a head tells apart: explore a store of a "
                "labelled data set, or, with clip-lens explore --images, a folder with a subfolder for each class; or "
                "give groups with a cue, --groups FILE."
            )
        return class_heads(self.data, classifier=self.classifier)

    def described(self, layer: int, head: int) -> Described:
        """The texts of a head, beside chance.

        Raises:
            ValueError: if there are fewer than two pictures.
        """
        return self._described.of((layer, head), lambda: self._describe(layer, head))

    def _describe(self, layer: int, head: int) -> Described:
        moments, texts = Moments.of(self.data, {layer}), self.texts()
        spans = text_span(self.model, moments, texts.pool, N_TEXTS, [(layer, head)], texts.embeddings)
        return Described(spans, clarity(self.model, moments, spans, len(texts.pool)))

    def images(self, layer: int, head: int) -> ExtremeImages:
        """The images to which a head's first texts apply most, and least.

        Raises:
            ValueError: as :meth:`described`, or if it has no texts.
        """
        spans = self.described(layer, head).spans
        if not spans[layer, head].texts:
            raise ValueError("The head has no texts, since it writes the same for all pictures: none is extreme.")
        return self._images.of((layer, head), lambda: self._searched(spans))

    def _searched(self, spans: TextSpanResult) -> ExtremeImages:
        n = TEXTS_WITH_IMAGES
        return extreme_images(self.data, spans, IMAGES_OF_TEXT, n_texts=n, text_embeddings=self.texts().embeddings)
