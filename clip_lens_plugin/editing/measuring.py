"""Measures an edited model beside the one that it was made of, on the same images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.ablation.data import checked_labels
from clip_lens_plugin.ablation.total import image_batches
from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.editing.effects import EditEffects, Stage, shares_of
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.hooks.interventions import refuse_hooks
from clip_lens_plugin.model.inputs.pixels import unlooked
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

NEIGHBOURS = 10
ROWS_AT_ONCE = 512


@torch.no_grad()
def edit_effects(
    edited: HookedCLIP,
    data: Any,
    classifier: ZeroShotClassifier | None = None,
    labels: Int[Tensor, " b"] | None = None,
    groups: Iterable[Any] | None = None,
    images: Any = None,
    batch_size: int = 32,
) -> EditEffects:
    """What the edits do, measured on the edited model, beside their direct effect.

    The direct effect changes the contributions of the edited heads and nothing else: later layers, the attention that
    pools and the last norm stay as they were. Measure on other images than those that the heads were chosen by, and
    that means were taken from.

    Args:
        edited: what ``model.edited`` gave.
        data: contributions of images, a store or the path of one, of the model before the edits.
        classifier: for accuracy, worst class and worst group.
        labels: position of the true class of each image, -1 where unknown (left out); those of the data if not given.
        groups: of each image, for the worst group, such as "landbird on water"; None for an image of none.
        images: the preprocessed images of ``data``, or the data set that the store is of; if not given, the pictures
            that were decomposed, or that data set where it is in reach.
        batch_size: images in a run.

    Raises:
        ValueError: if the model was not edited, the data are of another model than it was made of, hooks are on it or
            were on the data's, the images are missing or not those of the data, labels or groups are more or fewer
            than images, there are groups without a classifier, or no label is known.
    """
    data = data_of(data)
    if not edited.edits:
        raise ValueError(f"{edited.cfg.model_name} was not edited: give what model.edited(...) gave.")
    refuse_hooks(edited, "Effects are measured on the plain edited model")
    truth = None
    if classifier is not None:
        classifier.refuse_other_model(edited)
        truth = checked_labels(data, labels, classifier)
    of_groups = _checked_groups(groups, len(data), classifier is not None)
    after = Readout.of(edited)
    _refuse_other_model(data.readout, after, edited)
    before, direct = _before_and_direct(data, after, sorted({edit.layer for edit in edited.edits}))
    total = _after(edited, data, images, batch_size).to(before)
    shares = ()
    if classifier is not None and truth is not None:
        stages: dict[Stage, Tensor] = {"before": before, "direct": direct, "after": total}
        right: dict[Stage, Any] = {
            stage: (classifier.ranks(each, truth) == 0).cpu().numpy() for stage, each in stages.items()
        }
        shares = shares_of(right, truth.numpy(), classifier.names, of_groups)
    neighbours = min(NEIGHBOURS, len(data) - 1)
    kept = _kept(before, total, neighbours) if neighbours > 0 else None
    return EditEffects(edited.edits, len(data), shares, neighbours, kept)


def _checked_groups(groups: Iterable[Any] | None, n: int, classified: bool) -> list[str | None] | None:
    if groups is None:
        return None
    if not classified:
        raise ValueError("A group's accuracy needs a classifier: give one, or leave groups out.")
    # A column of a table has NaN where there is nothing.
    given = [None if group is None or group != group else str(group) for group in groups]
    if isinstance(groups, str) or len(given) != n:
        raise ValueError(f"{n} images need as many groups in a list, got {len(given)}.")
    return given


def _refuse_other_model(before: Readout, after: Readout, edited: HookedCLIP) -> None:
    """Raises ValueError if they differ elsewhere than where the model was edited."""
    layers = {edit.layer for edit in edited.edits}
    same = len(before.W_O) == len(after.W_O) and before.P.shape == after.P.shape
    pairs = [(before.P, after.P), (before.gamma, after.gamma), (before.beta_P, after.beta_P)]
    pairs += [(b, a) for l, (b, a) in enumerate(zip(before.W_O, after.W_O, strict=False)) if l not in layers]
    if not same or not all(_equal(*pair) for pair in pairs):
        raise ValueError(
            f"The data are of {before.model.cfg.model_name}, which is not the model that {edited.cfg.model_name} was "
            f"made of: the two differ in weights that no edit touched. Decompose images with the model before its "
            f"edits."
        )
    written = [(before.W_O[l], after.W_O[l]) for l in layers] + [(before.b_O[l], after.b_O[l]) for l in layers]
    if all(torch.equal(b.to(a), a) for b, a in written):
        raise ValueError(
            f"The data are of {edited.cfg.model_name} itself: its heads write what those of the data write. Decompose "
            f"images with the model before its edits."
        )


def _equal(before: Float[Tensor, "*shape"], after: Float[Tensor, "*other"]) -> bool:
    return before.shape == after.shape and torch.allclose(before.to(after), after, atol=1e-5)


def _before_and_direct(
    data: Data, after: Readout, layers: list[int]
) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b e"]]:
    found = [_direct(data.select(rows), after, layers) for rows in data.blocks()]
    before, direct = zip(*found, strict=True)
    return torch.cat(before), torch.cat(direct)


@full_precision()
def _direct(own: Contributions, after: Readout, layers: list[int]) -> tuple[Float[Tensor, "s e"], Float[Tensor, "s e"]]:
    """The embeddings, and those with the edited output weights on what heads put out before."""
    own.refuse_result_edits()
    before, coordinates, changed = own.readout, own.own_coordinates, own.embedding.clone()
    for layer in layers:
        new, old = (each.heads_together(coordinates[:, layer], layer, "separate") for each in (after, before))
        changed += new.to(changed) - old
    new, old = (each.biases_together(own.omega, own.bias_weight, "separate") for each in (after, before))
    changed += (new.to(changed) - old)[:, layers].sum(1)
    return own.embedding, changed


def _after(edited: HookedCLIP, data: Data, images: Any, batch_size: int) -> Float[Tensor, "b e"]:
    images = data.needed_source() if images is None else images
    if isinstance(images, Tensor) and len(images) != len(data):
        raise ValueError(f"The data hold {len(data)} images, but {len(images)} were given.")
    batches = image_batches(edited, images, batch_size, data.provenance)
    with unlooked():  # Pixels that were given have been looked at, all others are the model's own.
        return torch.cat([edited(batch) for batch in batches(None)])


@full_precision()
def _kept(before: Float[Tensor, "b e"], after: Float[Tensor, "b e"], k: int) -> float:
    """The share of each image's k nearest images that are among its k nearest after."""
    units = [torch.nn.functional.normalize(each, dim=-1) for each in (before, after)]
    kept = 0
    for start in range(0, len(before), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        found = []
        for unit in units:
            cosines = equations.towards(unit[rows], unit)
            own = torch.arange(start, start + len(cosines), device=cosines.device)
            cosines.scatter_(1, own[:, None], -torch.inf)
            found.append(cosines.topk(k).indices.cpu().numpy())
        kept += sum(len(np.intersect1d(*pair)) for pair in zip(*found, strict=True))
    return kept / (k * len(before))
