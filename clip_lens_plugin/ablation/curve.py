"""Zero-shot accuracy with components replaced by their mean, by zero or by those of other images.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, section 3 (figure 2 and table 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.ablation.component_sets import Components, paper_components
from clip_lens_plugin.ablation.data import checked_classes, checked_labels, constants_of, donors
from clip_lens_plugin.ablation.direct import direct_logits
from clip_lens_plugin.ablation.total import image_batches, total_logits
from clip_lens_plugin.arguments import checked_choice, checked_number
from clip_lens_plugin.bars import Bars
from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.decomposition.analysed import Analysed
from clip_lens_plugin.decomposition.constants import GivenConstants, checked_constants
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.hooks.interventions import refuse_hooks
from clip_lens_plugin.model.inputs.pixels import once_a_call
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.shown import ResultTable
from clip_lens_plugin.statistics.intervals import paired_interval, share_interval
from clip_lens_plugin.statistics.means import ComponentSums
from clip_lens_plugin.zero_shot.by_names import classifier_of_data
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

Ablation = Literal["mean", "zero", "resample"]
Effect = Literal["direct", "total"]


class AblationCurve(ResultTable):
    """What :func:`mean_ablation_curve` measured, one row per measurement; in a notebook it draws itself."""

    printed = ("ablated", "layers", "accuracy", "low", "high", "difference")


@once_a_call()
def mean_ablation_curve(
    data: Any,
    classes: ZeroShotClassifier | Float[Tensor, "t e"] | None = None,
    labels: Int[Tensor, " b"] | None = None,
    means_from: Any = None,
    *,
    components: Sequence[Components] | None = None,
    ablation: Ablation = "mean",
    effect: Effect = "direct",
    constants: GivenConstants | None = None,
    images: Any = None,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = False,
) -> AblationCurve:
    """Zero-shot accuracy of the model, and with each set of components ablated.

    A direct effect replaces components in the sum of cosine contributions, the norm of the embedding frozen, and runs
    nothing; a store is read once. A total effect replaces them in the running model, at every token; later layers
    react.

    Args:
        data: contributions of the images that are scored, a store, or the path of one.
        classes: a classifier, or unit text embeddings of the classes; the classes of the data by their names if not
            given, see :func:`~clip_lens_plugin.zero_shot.by_names.classifier_by_names`.
        labels: the true class of each image, -1 where unknown (left out); those of the store if not given.
        means_from: where means, or resampled components, come from; ``data`` itself if not given. For direct effects
            contributions, a store or :class:`ComponentSums`; for total effects images, as ``images``.
        components: sets to ablate, each alone; those of the paper if not given: attention layers from the first on,
            all MLPs and, where it was kept, the class token's attention to itself.
        ablation: "mean", "zero", or "resample": components of another, random image.
        effect: "direct" or "total".
        constants: of direct effects, "separate" or "shared": then a component is replaced with its share of them, as in
            the paper's code. Those of the data if not given.
        images: for total effects the preprocessed images of ``data``, or the data set that the store is of; if not
            given, the pictures that were decomposed, or that data set where it is in reach.
        seed: of resampling.
        batch_size: images in a run, for total effects.
        progress: show a bar.

    Returns:
        One row per measurement, the first of nothing ablated: ``ablated`` (in words), ``kind`` ("base", or the kind of
        the components), ``layers`` (how many are touched), ``accuracy`` (share of images, 0 to 1), ``low`` and ``high``
        (its 95 % Wilson score interval over the images), ``n`` (images), ``ablation``, ``effect``; and ``difference``
        (the accuracy less that of the intact model), ``difference_low`` and ``difference_high`` (its 95 % interval for
        pairs, since both are of the same images: see :func:`~clip_lens_plugin.statistics.intervals.paired_interval`).

    Raises:
        ValueError: if labels do not match the images or classes, there is nothing to take means from, ``images``
            are missing or not those of ``data``, or a hook on ``hook_result`` changed a head; if ``ablation``,
            ``effect`` or ``constants`` is none of its words; if constants are to be shared out in a store or for total
            effects; or if an image's contributions, or what replaces them, are NaN or infinite.
        TokensNotAvailableError: if the class token's attention to itself is asked for and was not kept.
    """
    checked_choice("ablation", ablation, get_args(Ablation))
    checked_choice("effect", effect, get_args(Effect))
    checked_number("batch_size", batch_size)
    checked_number("seed", seed, least=0)
    data = data_of(data)
    if classes is None:
        classes = classifier_of_data(data)
    texts = checked_classes(data, classes)
    truth = checked_labels(data, labels, classes)
    model: ImageModel = data.readout.image_model
    chosen = (
        paper_components(model, data.has_self_attention)
        if components is None
        else [each.checked_for(model) for each in components]
    )
    bars = Bars(visible=progress)
    # Means of a total effect take a run of their own.
    runs = len(chosen) + 1 + (effect == "total" and ablation == "mean" and means_from is None)
    task = bars.add_task("ablating", total=len(data) * runs)

    def moved(n: int) -> None:
        bars.advance(task, n)

    if effect == "direct":
        source = data if means_from is None else means_from
        if not isinstance(source, Analysed | ComponentSums):
            raise ValueError(
                f"Direct effects take means from contributions, a store or sums, got {type(source).__name__}."
            )
        if ablation == "mean" and source is data and len(data) < 2:
            raise ValueError(f"The mean of one image is the image: give {hint('means_from, or ', '')}more images.")
        found = direct_logits(data, texts, chosen, ablation, source, seed, constants_of(data, constants))
    else:
        if constants is not None and checked_constants(constants) == "shared":
            raise ValueError(
                "Total effects replace activations in the running model, where no constant is shared out: leave "
                "constants out, or ask for effect='direct'."
            )
        found = _total(data, model, texts, chosen, ablation, images, means_from, seed, batch_size, moved)
    known = (truth >= 0).numpy()
    n = int(known.sum())
    right, gained, lost = (np.zeros(len(chosen) + 1, dtype=np.int64) for _ in range(3))
    intact = np.zeros(0, dtype=bool)
    with bars:
        for rows, number, logits in found:
            at = slice(rows.start, rows.stop)
            best = logits.max(-1)
            if not bool(best.values.isfinite().all()):  # A NaN is greater than any number.
                bad = [rows.start + i for i in (~best.values.isfinite()).nonzero().flatten().tolist()]
                raise ValueError(f"The scores of rows {bad[:5]} are NaN or infinite: leave such images out.")
            hits = (best.indices.cpu() == truth[at]).numpy()[known[at]]
            intact = hits if number == -1 else intact  # Of the same rows: they come before any set is ablated.
            right[number + 1] += hits.sum()
            gained[number + 1] += (hits & ~intact).sum()
            lost[number + 1] += (intact & ~hits).sum()
            moved(len(rows))
    described = [("nothing", "base", 0), *((each.name, each.kind, each.n_layers) for each in chosen)]
    table = AblationCurve(described, columns=["ablated", "kind", "layers"])
    table["accuracy"] = right / n
    table["low"], table["high"] = share_interval(right, n)
    table["n"], table["ablation"], table["effect"] = n, ablation, effect
    table["difference"] = (gained - lost) / n
    low, high = paired_interval(gained, lost, n)
    base = table["kind"] == "base"  # Nothing differs from itself.
    table["difference_low"], table["difference_high"] = np.where(base, 0.0, low), np.where(base, 0.0, high)
    return table


def _total(
    data: Data,
    model: ImageModel,
    texts: Tensor,
    components: Sequence[Components],
    ablation: Ablation,
    images: Any,
    means_from: Any,
    seed: int,
    batch_size: int,
    moved: Callable[[int], None],
) -> Iterator[tuple[range, int, Tensor]]:
    if isinstance(means_from, Analysed | ComponentSums):
        raise ValueError("Total effects take means of activations: give images as means_from, not contributions.")
    refuse_hooks(model, "Total effects are measured on the plain model")
    images = data.needed_source() if images is None else images
    if isinstance(images, Tensor) and len(images) != len(data):
        raise ValueError(f"The data hold {len(data)} images, but {len(images)} were given.")
    scored = image_batches(model, images, batch_size, data.provenance)
    source = scored if means_from is None else image_batches(model, means_from, batch_size, None)
    donor_rows = None
    if ablation == "resample":
        if means_from is not None:
            raise ValueError("Total effects resample among the images themselves; leave means_from out.")
        donor_rows = donors(len(data), data, same=True, seed=seed)

    def counted(rows: Sequence[int] | None) -> Iterator[Tensor]:
        for batch in source(rows):
            yield batch
            moved(len(batch))

    of_means = counted if ablation == "mean" and means_from is None else source
    return total_logits(model, scored, texts, components, ablation, of_means, donor_rows)
