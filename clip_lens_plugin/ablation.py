"""Direct effects of mean ablation: components are replaced by their mean in the sum, and nothing is run again.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, section 3 (figure 2 and table 1).
"""

from __future__ import annotations

import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.contributions import Contributions


def mean_ablation_curve(
    contributions: Contributions,
    classes: Float[Tensor, "t e"],
    labels: Int[Tensor, " b"],
    means_from: Contributions | None = None,
) -> pd.DataFrame:
    """Zero-shot accuracy with attention layers replaced by their mean, cumulatively from the first; and all MLPs.

    A layer's attention is its heads and output bias. The base is the model's own accuracy.

    Args:
        contributions: of the images that are scored.
        classes: unit text embeddings of the classes.
        labels: the true class of each image.
        means_from: contributions of other images to take the means from, in the same unit; the scored images
            themselves if not given.

    Returns:
        A row a measurement: ``ablated`` (what was), ``kind`` ("base", "attention" or "mlps"), ``layers`` (how
        many), ``accuracy`` (share of images, 0 to 1).

    Raises:
        ValueError: if the numbers of images and labels differ, a label is not a class, the units differ, or there is
            no other set and only one image.
    """
    source = contributions if means_from is None else means_from
    _check(contributions, classes, labels, source)
    texts = contributions.readout.checked_texts(classes)
    labels = labels.to(texts.device)
    total = contributions.embedding @ texts.T
    attention = contributions.towards(texts).sum(2)
    attention_mean = source.towards(texts).sum(2).mean(0)
    mlps = (contributions.mlps @ texts.T).sum(1)
    mlps_mean = (source.mlps @ texts.T).sum(1).mean(0)

    def accuracy(logits: Tensor) -> float:
        return (logits.argmax(-1) == labels).double().mean().item()

    rows = [("nothing", "base", 0, accuracy(total))]
    change = (attention_mean - attention).cumsum(1)
    for l in range(contributions.n_layers):
        name = "attention 0" if l == 0 else f"attention 0-{l}"
        rows.append((name, "attention", l + 1, accuracy(total + change[:, l])))
    rows.append(("all MLPs", "mlps", contributions.n_layers, accuracy(total + mlps_mean - mlps)))
    return pd.DataFrame(rows, columns=["ablated", "kind", "layers", "accuracy"])


def _check(scored: Contributions, classes: Tensor, labels: Tensor, source: Contributions) -> None:
    if len(labels) != len(scored):
        raise ValueError(f"{len(scored)} images need as many labels, got {len(labels)}.")
    if len(labels) and not bool(((labels >= 0) & (labels < len(classes))).all()):
        raise ValueError(
            f"Labels must be positions of the {len(classes)} classes, 0 to {len(classes) - 1}; got "
            f"{int(labels.min())} to {int(labels.max())}."
        )
    if scored.unit != source.unit:
        raise ValueError(
            f"The means are in {source.unit!r} units, the scored contributions in {scored.unit!r}: call normalized() "
            f"on both or on neither."
        )
    if source is scored and len(scored) < 2:
        raise ValueError("The mean of one image is the image: give means_from, or more images.")
