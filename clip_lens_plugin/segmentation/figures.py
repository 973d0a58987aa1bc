"""Figures over a whole set of images: counts are summed over the set, precisions are means over images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from clip_lens_plugin.statistics.bootstrap import bootstrap_counts, percentile_interval

FIGURES = {
    "average_precision": "AP of the object",
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "both_classes_precision": "AP of both classes",
    "named_minus_other": "named − other",
    "named_higher": "named higher",
}
"""Each figure, and what it is called; the last two where a second object is in the image."""

SUMS = (
    "correct",
    "scored",
    "both_object",
    "either_object",
    "both_background",
    "either_background",
    "precision",
    "precisions",
    "both_classes",
    "both_classes_known",
    "gap",
    "higher",
    "gaps",
)
"""What figures are made of, summed over images."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap interval, and its difference to the reference on the same samples.

    Attributes:
        value, low, high: a part of 1; NaN where no image has it.
        difference, difference_low, difference_high: less the reference's; 0 for the reference itself.
    """

    value: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


def sums_of_images(rows: pd.DataFrame) -> Float[np.ndarray, "images sums"]:
    """What each image adds to :data:`SUMS`, from its row.

    The columns are those of :class:`~clip_lens_plugin.segmentation.scores.ImageScores`. Where the named and the other
    object are equally high, that is half an image in which the named one is higher.
    """
    counts = ("true_positive", "false_positive", "false_negative", "true_negative")
    tp, fp, fn, tn = (rows[name].to_numpy(dtype=float) for name in counts)
    precision = rows["average_precision"].to_numpy(dtype=float)
    both = rows["both_classes_precision"].to_numpy(dtype=float)
    gap = (rows["named"] - rows["other"]).to_numpy(dtype=float)
    known = ~np.isnan(gap)
    return np.stack(
        [
            tp + tn,
            tp + fp + fn + tn,
            tp,
            tp + fp + fn,
            tn,
            tn + fp + fn,
            np.nan_to_num(precision),
            ~np.isnan(precision),
            np.nan_to_num(both),
            ~np.isnan(both),
            np.nan_to_num(gap),
            np.where(known, (gap > 0) + 0.5 * (gap == 0), 0.0),
            known,
        ],
        axis=1,
        dtype=float,
    )


def figures_of(sums: Float[np.ndarray, "*s sums"]) -> dict[str, Float[np.ndarray, "*s"]]:
    """Every figure of :data:`FIGURES` from sums over images; NaN where no image has it.

    mIoU is the mean of the intersections over unions of object and background; a class that neither the masks nor the
    maps have anywhere is left out.
    """
    at = {name: sums[..., i] for i, name in enumerate(SUMS)}

    def ratio(part: str, whole: str) -> Float[np.ndarray, "*s"]:
        below = at[whole]
        return np.where(below > 0, at[part] / np.where(below > 0, below, 1), np.nan)

    unions = np.stack([ratio("both_object", "either_object"), ratio("both_background", "either_background")])
    there = ~np.isnan(unions)
    n = there.sum(0)
    return {
        "average_precision": ratio("precision", "precisions"),
        "miou": np.where(n > 0, np.where(there, unions, 0).sum(0) / np.where(n > 0, n, 1), np.nan),
        "pixel_accuracy": ratio("correct", "scored"),
        "both_classes_precision": ratio("both_classes", "both_classes_known"),
        "named_minus_other": ratio("gap", "gaps"),
        "named_higher": ratio("higher", "gaps"),
    }


def estimates(
    sums: Mapping[str, Float[np.ndarray, "images sums"]], groups: Int[np.ndarray, " images"], reference: str, seed: int
) -> dict[str, dict[str, Estimate]]:
    """Every figure of each kind of map, with intervals from the same bootstrap samples of groups.

    Args:
        sums: of each kind of map, :func:`sums_of_images`.
        groups: of each image, from 0 on; images of one group are drawn together.
        reference: the kind that others are compared with.
        seed: of the bootstrap.
    """
    n_groups = int(groups.max()) + 1
    counts = bootstrap_counts(n_groups, seed)
    values, drawn = {}, {}
    for name, of_images in sums.items():
        of_groups = np.zeros((n_groups, of_images.shape[1]))
        np.add.at(of_groups, groups, of_images)
        values[name], drawn[name] = figures_of(of_groups.sum(0)), figures_of(counts @ of_groups)
    found: dict[str, dict[str, Estimate]] = {}
    for name in sums:
        found[name] = {}
        for figure in FIGURES:
            value, base = float(values[name][figure]), float(values[reference][figure])
            apart = percentile_interval(drawn[name][figure] - drawn[reference][figure])
            found[name][figure] = Estimate(value, *percentile_interval(drawn[name][figure]), value - base, *apart)
    return found
