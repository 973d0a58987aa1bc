"""Fewer samples of a data set."""

from __future__ import annotations

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.datasets.image_folder import evenly_spaced
from clip_lens_plugin.datasets.source import ImageSource, Sample, fingerprint_of
from clip_lens_plugin.labelling.names import notes_of


class PartOfSource:
    """At most ``limit`` samples, evenly spaced over the whole; names and classes are those of the whole."""

    def __init__(self, whole: ImageSource, limit: int) -> None:
        """
        Raises:
            ValueError: if the limit is no whole number of at least 1.
        """
        self._whole = whole
        self._positions = evenly_spaced(range(len(whole)), checked_number("limit", limit))

    @property
    def description(self) -> str:
        return f"{len(self):,} samples of the {self._whole.description}"

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self._whole.classes

    @property
    def label_notes(self) -> tuple[str, ...]:
        """What is taken for a class in the whole."""
        return notes_of(self._whole)

    def __len__(self) -> int:
        return len(self._positions)

    def name(self, position: int) -> str:
        return self._whole.name(self._positions[position])

    def read(self, position: int) -> Sample:
        return self._whole.read(self._positions[position])

    def fingerprint(self) -> str:
        """Holds the whole's, which knows the sizes of the files."""
        names = ((self.name(i), -1) for i in range(len(self)))
        return fingerprint_of(f"part of {self._whole.fingerprint()}", self.classes, names)
