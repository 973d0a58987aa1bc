"""Accuracy of a zero-shot classifier on data of any size."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.zero_shot.classifier import ZeroShotAccuracy, ZeroShotClassifier


@torch.no_grad()
def accuracy_on(
    data: Data, classifier: ZeroShotClassifier, labels: Int[Tensor, " n"] | None = None
) -> ZeroShotAccuracy:
    """How often the classifier is right about the rows of the data, which are read block by block.

    Args:
        data: contributions, or a store.
        classifier: made with the model of the data.
        labels: position of the true class of each row, -1 where unknown (left out); those of the data if not given.

    Raises:
        ValueError: if the classifier was made with another model, there are no labels, none is known, they do not match
            the rows or the classes, or the data's own labels are positions among other classes.
    """
    classifier.refuse_other_model(data.readout.image_model)
    if labels is None and data.classes is not None:
        classifier.refuse_other_classes(data.classes, "the store's")
    truth = data.labels if labels is None else labels
    if truth is None:
        raise ValueError("These data have no labels of their own: give labels, the true class of each image.")
    if len(truth) != len(data):
        raise ValueError(f"{len(data)} images need as many labels, got {len(truth)}.")
    ranks = [
        classifier.ranks(data.select(rows).embedding, truth[rows.start : rows.stop]).cpu() for rows in data.blocks()
    ]
    return ZeroShotAccuracy.from_ranks(torch.cat([*ranks, torch.empty(0, dtype=torch.int64)]), truth, classifier.names)
