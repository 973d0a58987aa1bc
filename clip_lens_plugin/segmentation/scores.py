"""How well one map lies on one mask, by the protocol of Chefer et al.

Source: Chefer, Gur and Wolf, "Transformer Interpretability Beyond Attention Visualization", CVPR 2021, section 4.2, and
Gandelsman, Efros and Steinhardt, ICLR 2024, section 5, which takes it over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class ImageScores:
    """What one map gives on one image; counts are of pixels that are scored.

    Attributes:
        true_positive, false_positive, false_negative, true_negative: pixels, by what the map says and the mask.
        unseen: pixels that lie in no patch, because the model never saw them; not scored.
        void: pixels that the mask says nothing of, among those that were seen; not scored.
        average_precision: of the object's pixels, see :func:`average_precision`; NaN where the scored mask is all
            object or all background.
        both_classes_precision: see :func:`both_classes_precision`; NaN where no pixel is scored.
        named, other: the map's mean, from 0 to 1, in the object that the text names and in another one; NaN where there
            is no other, or a pixel of either was not seen.
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    unseen: int
    void: int
    average_precision: float
    both_classes_precision: float
    named: float = float("nan")
    other: float = float("nan")


def image_scores(
    found: Float[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    void: Bool[np.ndarray, "height width"] | None = None,
    other: Bool[np.ndarray, "height width"] | None = None,
    *,
    positive_part: bool = False,
) -> ImageScores:
    """The scores of one map.

    The map is scaled to 0 to 1 by its own least and greatest value; what is above its own mean counts as object. Both
    are taken over all pixels that the model saw, also where the mask says nothing.

    Args:
        found: a value for each pixel, NaN where the model saw nothing.
        mask: the object.
        void: pixels that the mask says nothing of.
        other: a second object, which the text does not name.
        positive_part: negative values count as 0 before all else, as in the code of Gandelsman et al.
    """
    seen = ~np.isnan(found)
    scored = seen if void is None else seen & ~void
    relative = scaled(found[seen], positive_part)
    whole = np.full(found.shape, np.nan)
    whole[seen] = relative
    above = np.zeros(found.shape, dtype=bool)
    above[seen] = relative > (relative.mean() if relative.size else 0.0)
    says, truth, values = above[scored], mask[scored], whole[scored]
    return ImageScores(
        true_positive=int((says & truth).sum()),
        false_positive=int((says & ~truth).sum()),
        false_negative=int((~says & truth).sum()),
        true_negative=int((~says & ~truth).sum()),
        unseen=int((~seen).sum()),
        void=int(seen.sum() - scored.sum()),
        average_precision=average_precision(truth, values) if 0 < truth.sum() < truth.size else float("nan"),
        both_classes_precision=both_classes_precision(truth, values) if truth.size else float("nan"),
        named=float("nan") if other is None else _mean_in(whole, mask),
        other=float("nan") if other is None else _mean_in(whole, other),
    )


def scaled(values: Float[np.ndarray, " pixels"], positive_part: bool = False) -> Float[np.ndarray, " pixels"]:
    """The values from 0 to 1, the least and the greatest; 0 everywhere where they are all equal."""
    kept = values.clip(min=0) if positive_part else values
    if not kept.size or kept.max() <= kept.min():
        return np.zeros(kept.shape)
    return (kept - kept.min()) / (kept.max() - kept.min())


def average_precision(truth: Bool[np.ndarray, " pixels"], values: Float[np.ndarray, " pixels"]) -> float:
    """Σ_k (R_k − R_{k−1}) P_k over the thresholds, from the greatest value down: recall R and precision P at each.

    As ``sklearn.metrics.average_precision_score``, without interpolation; equal values share a threshold. NaN where
    nothing is true.
    """
    order = np.argsort(-values, kind="stable")
    return _precision_in_order(truth[order], values[order])


def both_classes_precision(truth: Bool[np.ndarray, " pixels"], values: Float[np.ndarray, " pixels"]) -> float:
    """The average precision as published: object and background in one list of twice as many pixels.

    Values u stand for the object where the mask is true, 1 − u for the background where it is false. What is far from
    any object is background for nearly every map, so this saturates: most of it is how much background there is. Where
    the map is the same everywhere, both are 0, as the authors' code has it, and this is 0.5.
    """
    if values.max() <= values.min():
        return 0.5
    order = np.argsort(-values, kind="stable")
    joined = np.concatenate([values[order], (1 - values[order])[::-1]])
    truths = np.concatenate([truth[order], ~truth[order][::-1]])
    merged = np.argsort(-joined, kind="stable")  # Two runs that are in order already, which is quick.
    return _precision_in_order(truths[merged], joined[merged])


def _precision_in_order(truth: Bool[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> float:
    """Of values that go down."""
    hits = np.cumsum(truth)
    if not hits.size or not hits[-1]:
        return float("nan")
    last = np.flatnonzero(np.r_[values[1:] != values[:-1], True])  # of each run of equal values
    gained = np.diff(hits[last], prepend=0) / hits[-1]
    return float((gained * hits[last] / (last + 1)).sum())


def _mean_in(whole: Float[np.ndarray, "height width"], where: Bool[np.ndarray, "height width"]) -> float:
    inside = whole[where]
    return float(inside.mean()) if inside.size else float("nan")  # NaN too where a part was not seen.
