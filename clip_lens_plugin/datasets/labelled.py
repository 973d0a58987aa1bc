"""A data set with labels that were given beside it."""

from __future__ import annotations

from clip_lens_plugin.datasets.source import ImageSource, Sample, fingerprint_of
from clip_lens_plugin.labelling.given import GivenLabels, read_labels
from clip_lens_plugin.labelling.values import LabelOrder


class LabelledSource:
    """The samples of another source under the labels that a file, ImageNet's devkit or a dictionary gives them."""

    def __init__(
        self, whole: ImageSource, labels: GivenLabels, order: LabelOrder | None = None, column: str | None = None
    ) -> None:
        """Reads the labels, and no sample; see :func:`~clip_lens_plugin.labelling.given.read_labels`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if labels and samples do not match, or labels are not plain.
        """
        names = [whole.name(i) for i in range(len(whole))]
        self._whole = whole
        self._given = read_labels(labels, names, order, column)

    @property
    def description(self) -> str:
        return self._whole.description

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self._given.classes

    @property
    def label_notes(self) -> tuple[str, ...]:
        """What is taken for a class, and what the whole leaves out."""
        return (self._given.note, *getattr(self._whole, "left_out", ()))

    def __len__(self) -> int:
        return len(self._whole)

    def name(self, position: int) -> str:
        return self._whole.name(position)

    def read(self, position: int) -> Sample:
        return Sample(self._whole.read(position).image, self._given.labels[position])

    def fingerprint(self) -> str:
        """Holds the whole's, and every label."""
        labels = ((self.name(i), label) for i, label in enumerate(self._given.labels))
        return fingerprint_of(f"labelled {self._whole.fingerprint()}", self.classes, labels)
