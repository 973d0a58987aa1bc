"""Scores of several kinds of maps on a set of images, with intervals and differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from clip_lens_plugin.plain_text import signed
from clip_lens_plugin.segmentation.figures import FIGURES, Estimate, estimates, sums_of_images
from clip_lens_plugin.segmentation.overlays import Overlay
from clip_lens_plugin.shown import Shown


@dataclass(frozen=True)
class SegmentationScores(Shown):
    """How well kinds of maps lie on what texts name.

    Attributes:
        rows: one row for each image and kind: image, name, text, group, kind, method, contrast, the fields of
            :class:`~clip_lens_plugin.segmentation.scores.ImageScores`, and seconds.
        kinds: what each kind is called in tables, by its label.
        reference: the kind that others are compared with.
        mode: where maps are scored, see :mod:`clip_lens_plugin.segmentation.plane`.
        model_name: of the model.
        title: of the data set.
        seed: of the bootstrap.
        overlays: a few images with their maps.
    """

    rows: pd.DataFrame = field(repr=False, compare=False)
    kinds: Mapping[str, str]
    reference: str
    mode: str
    model_name: str
    title: str
    seed: int = 0
    overlays: tuple[Overlay, ...] = field(default=(), repr=False, compare=False)

    @cached_property
    def estimates(self) -> dict[str, dict[str, Estimate]]:
        """Every figure of :data:`~clip_lens_plugin.segmentation.figures.FIGURES`, for each kind.

        Bootstrap samples are of groups of images, the same for all kinds.
        """
        by_kind = {label: self.of(label) for label in self.kinds}
        groups = pd.factorize(by_kind[self.reference]["group"])[0].astype(np.int64)
        return estimates(
            {label: sums_of_images(rows) for label, rows in by_kind.items()}, groups, self.reference, self.seed
        )

    def of(self, label: str) -> pd.DataFrame:
        """One row for each image of a kind.

        Raises:
            KeyError: if there is no such kind.
        """
        if label not in self.kinds:
            raise KeyError(f"There is no kind {label!r}; there are {', '.join(self.kinds)}.")
        own = pd.DataFrame(self.rows[self.rows["kind"] == label])
        return own.sort_values(by="image", ignore_index=True)

    @property
    def n_images(self) -> int:
        """How many images were scored."""
        return len(self.rows) // len(self.kinds)

    @property
    def has_other(self) -> bool:
        """Whether some image has a second object that its text does not name."""
        return not np.isnan(self.rows["other"].to_numpy(dtype=float)).all()

    @property
    def figures(self) -> dict[str, str]:
        """The figures that there are for these images, and what they are called."""
        return {name: in_words for name, in_words in FIGURES.items() if self.has_other or not name.startswith("named")}

    @property
    def one_class(self) -> tuple[str, ...]:
        """Names of images whose scored mask is all object or all background: the object's AP leaves them out."""
        first = self.of(self.reference)
        alone = np.isnan(first["average_precision"].to_numpy(dtype=float))
        return tuple(str(name) for name, one in zip(first["name"], alone, strict=True) if one)

    @property
    def unseen(self) -> float:
        """The part of all pixels that the model saw nothing of, and that is not scored."""
        return self._part("unseen")

    @property
    def void(self) -> float:
        """The part of all pixels that masks say nothing of."""
        return self._part("void")

    @property
    def object_share(self) -> float:
        """The mean, over images that have an AP, of the part of scored pixels that are the object's."""
        first = self.of(self.reference)
        tp, fp, fn, tn, precision = (
            first[name].to_numpy(dtype=float)
            for name in ("true_positive", "false_positive", "false_negative", "true_negative", "average_precision")
        )
        known = ~np.isnan(precision)
        inside, scored = (tp + fn)[known], (tp + fp + fn + tn)[known]
        return float((inside / scored).mean()) if known.any() else float("nan")

    def seconds(self, label: str) -> float:
        """The mean time for an image, with the model's run."""
        return float(self.of(label)["seconds"].to_numpy(dtype=float).mean())

    def best(self, figure: str) -> tuple[str, ...]:
        """The labels of the kinds with the greatest value: one, or several that have the same; none where it is NaN.

        Raises:
            KeyError: if there is no such figure.
        """
        known = {label: found[figure].value for label, found in self.estimates.items()}
        most = np.nanmax([*known.values(), -np.inf])
        return tuple(label for label, value in known.items() if value == most)

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each kind: method, contrast, images, each figure with its interval and its difference to the
        reference (parts of 1), and the mean seconds for an image.
        """
        found = []
        for label in self.kinds:
            own = self.of(label)
            row: dict[str, Any] = {
                "method": own["method"].iloc[0],
                "contrast": bool(own["contrast"].iloc[0]),
                "images": len(own),
            }
            for figure in self.figures:
                each = self.estimates[label][figure]
                row |= {
                    figure: each.value,
                    f"{figure}_low": each.low,
                    f"{figure}_high": each.high,
                    f"{figure}_difference": each.difference,
                    f"{figure}_difference_low": each.difference_low,
                    f"{figure}_difference_high": each.difference_high,
                }
            found.append({**row, "seconds": self.seconds(label)})
        return pd.DataFrame(found)

    def verdicts(self) -> list[str]:
        """One sentence per figure: what is best, and how far the reference, or else the next one, is from it."""
        return [self._verdict(figure, in_words) for figure, in_words in self.figures.items()]

    def _verdict(self, figure: str, in_words: str) -> str:
        best = self.best(figure)
        if not best:
            return f"{in_words}: no image has it."
        top = self.estimates[best[0]][figure].value
        names = " and ".join(self.kinds[label] for label in best)
        found = f"{in_words}: {names} {'is' if len(best) == 1 else 'are'} best, {per_cent(figure, top)}"
        if self.reference not in best:
            own, most = self.estimates[self.reference][figure], self.estimates[best[0]][figure]
            gap = (most.difference, most.difference_low, most.difference_high)
            return f"{found}; {self.kinds[self.reference]} has {per_cent(figure, own.value)}, {_less(*gap)}."
        others = {label: each[figure] for label, each in self.estimates.items() if label not in best}
        if not others:
            return f"{found}."
        label, after = max(others.items(), key=lambda pair: np.nan_to_num(pair[1].value, nan=-np.inf))
        gap = (-after.difference, -after.difference_high, -after.difference_low)
        return f"{found}; next is {self.kinds[label]} with {per_cent(figure, after.value)}, {_less(*gap)}."

    def _part(self, name: str) -> float:
        first = self.of(self.reference)
        counts = ("true_positive", "false_positive", "false_negative", "true_negative", "unseen", "void")
        pixels = {each: int(first[each].to_numpy(dtype=np.int64).sum()) for each in counts}
        return pixels[name] / sum(pixels.values())

    def __repr__(self) -> str:
        ap = {label: f"{100 * found['average_precision'].value:.1f}" for label, found in self.estimates.items()}
        listed = ", ".join(f"{label} {value}" for label, value in ap.items())
        return (
            f"SegmentationScores({self.n_images:,} images of {self.title}, {self.model_name}, mode {self.mode!r}; AP "
            f"of the object in %: {listed})"
        )


def _less(difference: float, low: float, high: float) -> str:
    """How much less something has, in points."""
    ends = " to ".join(signed(100 * each, 1) for each in (low, high))
    chance = "" if low > 0 else "; chance may explain it"
    return f"{100 * difference:.1f} points less (95 % interval of the difference {ends}{chance})"


def per_cent(figure: str, value: float) -> str:
    """A figure in per cent; a difference of means with its sign."""
    if np.isnan(value):
        return "–"
    return signed(100 * value, 1) if figure == "named_minus_other" else f"{100 * value:.1f}"
