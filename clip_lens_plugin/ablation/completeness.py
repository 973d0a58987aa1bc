"""How much of the accuracy survives when heads are replaced by their projections on the texts that describe them.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, section 4 (figure 3). As in the paper's code, the attention of the
layers that are not described is replaced by its mean, and the MLPs stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.ablation.data import checked_classes, checked_labels, constants_of, means_of, pieces
from clip_lens_plugin.arguments import checked_number, whole_numbers
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.constants import Constants
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.describe.equations import projected
from clip_lens_plugin.describe.spans import TextSpanResult
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.shown import ResultTable
from clip_lens_plugin.statistics.intervals import share_interval
from clip_lens_plugin.texts.pool import TextPool
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

MODEL, WHOLE = "model", "all directions"
"""What stands beside the pools: the model itself, and the described heads whole."""


class TextSpanCompleteness(ResultTable):
    """What :func:`text_span_completeness` measured, one row per measurement; in a notebook it draws itself."""

    printed = ("pool", "n_texts", "accuracy", "low", "high")


@takes_bridges
def random_directions(model: ImageModel, n: int, seed: int = 0) -> tuple[TextPool, Float[Tensor, "t e"]]:
    """A control pool: n unit vectors with no meaning, for ``text_span(model, moments, pool, text_embeddings=...)``.

    Raises:
        ValueError: if ``n`` is no whole number of at least 1, or ``seed`` none of at least 0.
    """
    n, seed = checked_number("n", n), checked_number("seed", seed, least=0)
    generator = torch.Generator("cpu").manual_seed(seed)
    vectors = torch.randn(n, model.cfg.d_embed, generator=generator, dtype=torch.float64, device="cpu")
    pool = TextPool.from_strings([f"random direction {i}" for i in range(n)], theme="random")
    return pool, torch.nn.functional.normalize(vectors, dim=-1).to(model.cfg.device)


@full_precision()
def text_span_completeness(
    data: Data,
    classes: ZeroShotClassifier | Float[Tensor, "t e"],
    spans: Mapping[str, TextSpanResult],
    labels: Int[Tensor, " b"] | None = None,
    n_texts: Sequence[int] = (10, 20, 30, 40, 50, 60),
    means_from: Any = None,
) -> TextSpanCompleteness:
    """Zero-shot accuracy with each described head replaced by its mean and its projection on its first m texts.

    Args:
        data, classes, labels: see :func:`~clip_lens_plugin.ablation.curve.mean_ablation_curve`.
        spans: pool name to TextSpan's result, all of the same heads and constants; controls among them, such as common
            words or :func:`random_directions`.
        n_texts: m; where a head has fewer texts, all of them.
        means_from: contributions, a store or sums to take means from; ``data`` itself if not given.

    Returns:
        One row per measurement: ``pool``, ``n_texts``, ``accuracy`` (share of images, 0 to 1), ``low``, ``high`` (95 %
        Wilson score interval), ``n``. The pool "model" is the model itself; "all directions" has the described heads
        whole (n_texts 0 for both), and is what the others approach.

    Raises:
        ValueError: if there is no pool, the pools describe different heads, m is less than 1, or as the curve.
    """
    heads = {name: result.heads for name, result in spans.items()}
    if not spans or len({tuple(sorted(each)) for each in heads.values()}) != 1:
        raise ValueError(f"Give one or more pools that describe the same heads; got {heads}.")
    steps = sorted({checked_number("Each of n_texts", m) for m in whole_numbers("n_texts", n_texts) or []})
    if not steps:
        raise ValueError("n_texts must hold one or more numbers, such as (10, 20).")
    kinds: list[Constants] = [result.constants for result in spans.values()]
    if len(set(kinds)) != 1:
        raise ValueError("Some pools describe heads with the constants separate, others with them shared out.")
    constants = constants_of(data, kinds[0])
    texts = checked_classes(data, classes)
    truth = checked_labels(data, labels, classes)
    means = means_of(data if means_from is None else means_from, constants)
    described = sorted(next(iter(heads.values())))
    keys = [(MODEL, 0), (WHOLE, 0), *((name, m) for name in spans for m in steps)]
    right = dict.fromkeys(keys, 0)
    for rows, own in pieces(data, constants):
        own.refuse_result_edits()
        readout = own.readout
        at = truth[rows.start : rows.stop]
        known = at >= 0

        def count(key: tuple[str, int], embedding: Tensor, at=at, known=known) -> None:
            nearest = equations.towards(embedding, texts).argmax(-1).cpu()
            right[key] += int((nearest == at)[known].sum())

        away = own.head_coordinates - means.coordinates.to(own.head_coordinates)
        maps = {(l, h): readout.head_map(l, h, constants) for l, h in described}
        without = own.embedding - sum(readout.heads_together(away[:, l], l, constants) for l in range(own.n_layers))
        whole = without + sum(equations.contribution(away[:, l, h], maps[l, h]) for l, h in described)
        count((MODEL, 0), own.embedding)
        count((WHOLE, 0), whole)
        for name, result in spans.items():
            replaced, done = without, 0
            for m in steps:
                for l, h in described:
                    directions = result[l, h].directions[done:m].to(away)
                    replaced = replaced + projected(away[:, l, h], maps[l, h], directions)
                done = m
                count((name, m), replaced)
    table = TextSpanCompleteness(keys, columns=["pool", "n_texts"])
    n = int((truth >= 0).sum())
    table["accuracy"] = [right[key] / n for key in keys]
    table["low"], table["high"] = share_interval(np.array([right[key] for key in keys]), n)
    table["n"] = n
    return table
