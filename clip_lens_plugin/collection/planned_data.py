"""What a store says of itself by its plan, before any of its numbers is read."""

from __future__ import annotations

from pathlib import Path

from clip_lens_plugin.collection.origins.own_pictures import needed_source, own_source
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.decomposition.analysed import Origin
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.labelling.wordnet import worded


class PlannedData(Data):
    """Data that were collected as a plan says, and lie at a place."""

    plan: Plan
    _place: Place

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the labels; words where an earlier version kept WordNet ids."""
        return None if self.plan.classes is None else worded(self.plan.classes)

    @property
    def folder(self) -> Path | None:
        """Where it lies; None if that is not on this machine."""
        return self._place.folder

    @property
    def has_rows(self) -> bool:
        """Whether samples were kept, and not the moments alone."""
        return self.plan.what == "contributions"

    @property
    def has_self_attention(self) -> bool:
        """Whether what the class token sends to itself was kept."""
        return self.plan.self_attention

    @property
    def neuron_layers(self) -> tuple[int, ...]:
        """The layers whose neurons' moments were collected."""
        return self.plan.neuron_layers

    @property
    def origin(self) -> Origin:
        """The data set that was collected."""
        return Origin(self.plan.dataset, self.plan.dataset_fingerprint)

    def own_source(self) -> ImageSource | None:
        """The data set that was collected, where it is drawn or a folder in reach, and as it was; else None."""
        return own_source(self.plan, self.folder)

    def needed_source(self) -> ImageSource:
        """The same, where the pictures are needed.

        Raises:
            ValueError: if they are not in reach; the message says what to give.
        """
        return needed_source(self.plan, self.folder)
