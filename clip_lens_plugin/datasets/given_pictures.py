"""Pictures that a user gave, as a data set without labels."""

from __future__ import annotations

from clip_lens_plugin.datasets.source import Sample, fingerprint_of
from clip_lens_plugin.images.photographs import Photographs


class GivenPictures:
    """Pictures by their place among those that were given, opened each time that they are read.

    Attributes:
        photographs: the pictures.
    """

    def __init__(self, photographs: Photographs) -> None:
        self.photographs = photographs

    @property
    def description(self) -> str:
        return f"{len(self):,} pictures that were given"

    @property
    def classes(self) -> None:
        """None: they have no labels."""

    def __len__(self) -> int:
        return len(self.photographs)

    def name(self, position: int) -> str:
        return self.photographs[position].name

    def read(self, position: int) -> Sample:
        return Sample(self.photographs[position].open(), -1)

    def fingerprint(self) -> str:
        return fingerprint_of("pictures", None, ((each.name, -1) for each in self.photographs))
