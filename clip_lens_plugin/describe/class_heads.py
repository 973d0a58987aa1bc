"""How much of each head's variance the classes of the images explain, beside what shuffled labels would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_labels, checked_number, checked_texts
from clip_lens_plugin.bars import tracked
from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.describe.class_result import ClassHeads
from clip_lens_plugin.numerics.noise import computed_noise, least_variance
from clip_lens_plugin.statistics.class_sums import ClassSums
from clip_lens_plugin.statistics.class_variance import distances_of_classes, shares_of_classes
from clip_lens_plugin.statistics.moments import Moments, late_layers
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

DRAW_BYTES = 2**28
"""Of the sums of permuted labels that are taken in one pass over the rows."""


@torch.no_grad()
def class_heads(
    data: Any,
    labels: Any = None,
    classes: Sequence[str] | None = None,
    *,
    classifier: ZeroShotClassifier | None = None,
    permutations: int = 20,
    seed: int = 0,
) -> ClassHeads:
    """For each head, how much of its variance the classes explain, and which classes it tells apart.

    η² = between / total: with y M the head's contribution in cosine units, ȳ_c its mean over the n_c images of a class
    and ȳ over all n, ``η² = Σ_c n_c ‖(ȳ_c − ȳ) M‖² / Σ_b ‖(y_b − ȳ) M‖²``. Any labels explain something, the more the
    more classes there are: (c − 1) / (n − 1) on the average over all permutations of them. Where there are rows, labels
    are permuted, and the mean and the greatest of their η² are given beside; from sums alone, that average is.

    A head that explains the classes tells them apart; whether the model's answer depends on it, an ablation says.

    Args:
        data: a store or its path, or contributions; a store without rows has kept the sums of its own labels.
        labels: of each row, a position among the classes, -1 where it is not known; those of the data if not given.
        classes: names of the classes, in the order of the labels; those of the data if not given, or numbers.
        classifier: of these classes, for what a head adds towards the class's own text.
        permutations: of the labels.
        seed: of the permutations.

    Raises:
        ValueError: if there are no labels, or images of fewer than two classes; if no head varies; if labels do not
            match rows or classes; if the classifier was made with another model or of other classes; or if a store
            holds neither class sums nor rows (the message says how to have them).
    """
    given = data_of(data)
    checked_number("permutations", permutations, least=0)
    names = given.classes if classes is None else tuple(checked_texts("classes", classes))
    kept = given.kept(ClassSums) if labels is None else None
    of_rows, has_rows = _labels(given, labels, names, kept), kept is None or given.has_rows
    if names is None:
        names = tuple(f"class {i}" for i in range(int(of_rows.max()) + 1 if len(of_rows) else 0))
    if classifier is not None:
        classifier.refuse_other_model(given.readout.image_model)
        classifier.refuse_other_classes(names, "the data's")
    if kept is not None and len(names) != len(kept.counts):
        raise ValueError(f"The data have {len(kept.counts):,} classes, got names of {len(names):,}.")
    sums, moments = _of_rows(given, of_rows, len(names)) if kept is None else (kept, Moments.of(given))
    present = sums.counts.nonzero().flatten()
    if len(present) < 2:
        labels_given = f"only of {names[int(present[0])]!r}" if len(present) else "without a label, all of them"
        raise ValueError(f"Images of two or more classes are needed, these are {labels_given}. Give labels of others.")
    found = _Found(given.readout, sums, sums.labelled(moments), present, names)
    found.refuse_nothing_varies()
    drawn = found.none_drawn() if not has_rows else found.drawn(given, of_rows, permutations, seed)
    return found.result(drawn, classifier)


def _labels(data: Data, given: Any, names: Sequence[str] | None, kept: ClassSums | None) -> Int[Tensor, " n"]:
    """Of each row; none where sums of the data's own labels were kept without rows."""
    if given is None and kept is not None and not data.has_rows:
        return torch.zeros(0, dtype=torch.int64, device="cpu")
    own = data.labels if given is None else given
    if own is None:
        raise ValueError(
            "These data have no labels of their own: give labels, the class of each image, and classes, their names."
        )
    most = len(names) if names is not None else torch.iinfo(torch.int64).max
    return checked_labels(own, len(data), most)


def _of_rows(data: Data, labels: Int[Tensor, " n"], n_classes: int) -> tuple[ClassSums, Moments]:
    """Of all heads, or of the late ones where an attention pool makes moments large."""
    sums = moments = None
    for rows in tracked([*data.blocks()], "summing classes", visible=False):
        own = data.select(rows).normalized()
        every = range(own.n_layers)
        layers = late_layers(own.n_layers) if data.readout.pooling.n_heads > 1 else every
        sums = (sums or ClassSums.none(own, n_classes, layers)).absorb([own], labels[rows.start : rows.stop].tolist())
        moments = Moments.from_contributions(own, layers) if moments is None else moments.absorb(own)
    if sums is None or moments is None:
        raise ValueError("There is no row, so classes explain nothing.")
    return sums, moments


class _Found:
    """Sums of the classes that have images, of labelled images alone."""

    def __init__(
        self, readout: Readout, sums: ClassSums, moments: Moments, present: Int[Tensor, " c"], names: Sequence[str]
    ) -> None:
        self._readout, self._sums, self._moments = readout, sums, moments.to(torch.device("cpu"))
        self._present, self._names = present, tuple(names)
        self._counts = sums.counts[present].double()
        self._sum_y = sums.sum_y.cpu()[present]
        self._n_heads = self._sum_y.shape[2]
        self._forms: dict[tuple[int, int], Tensor] = {}
        self._variance = torch.zeros(self._sum_y.shape[1:3], dtype=torch.float64, device="cpu")
        noise = computed_noise(torch.float32) if moments.noise is None else moments.noise
        for at, layer, head in self._heads():
            form = self._form(layer, head)
            square = float((self._moments.second_moment(layer, head) * form).sum())
            variance = square - float(equations.quadratic(self._moments.mean[layer, head], form))
            self._variance[at, head] = variance if variance > least_variance(square, noise) else torch.nan

    def refuse_nothing_varies(self) -> None:
        """Raises ValueError if no head varies over the images: η² would be 0 / 0 everywhere."""
        if bool(self._variance.isnan().all()):
            raise ValueError(
                f"What each head writes is the same for all {int(self._counts.sum()):,} images, but for rounding, so "
                f"there is no variance that classes could explain. Give images that differ."
            )

    def _heads(self) -> Iterator[tuple[int, int, int]]:
        """Place among the layers, layer and head of each."""
        for at, layer in enumerate(self._sums.layers):
            yield from ((at, layer, head) for head in range(self._n_heads))

    def _form(self, layer: int, head: int) -> Float[Tensor, "k k"]:
        if (layer, head) not in self._forms:
            self._forms[layer, head] = equations.gram(self._map(layer, head))
        return self._forms[layer, head]

    def _map(self, layer: int, head: int) -> Float[Tensor, "k e"]:
        return self._readout.head_map(layer, head, self._sums.constants).detach().cpu().double()

    def none_drawn(self) -> Float[Tensor, "0 m h"]:
        """η² of no permutation."""
        return self._variance.new_zeros(0, *self._variance.shape)

    def drawn(self, data: Data, labels: Int[Tensor, " n"], permutations: int, seed: int) -> Float[Tensor, "d m h"]:
        """η² of permuted labels, as many permutations in a pass over the rows as fit in memory."""
        generator, found = torch.Generator("cpu").manual_seed(seed), [self.none_drawn()]
        labels = labels.cpu()
        known = labels >= 0
        place = torch.zeros(len(self._names), dtype=torch.int64, device="cpu")
        place[self._present] = torch.arange(len(self._present), device="cpu")
        own = place[labels[known]]
        at_once = max(1, DRAW_BYTES // self._sum_y.nbytes)
        for start in range(0, permutations, at_once):
            count = min(at_once, permutations - start)
            permuted = torch.full((count, len(labels)), -1, device="cpu")
            orders = [torch.randperm(len(own), generator=generator, device="cpu") for _ in range(count)]
            permuted[:, known] = torch.stack([own[order] for order in orders])
            found.append(self._of_permuted(data, permuted))
        return torch.cat(found)

    def _of_permuted(self, data: Data, permuted: Int[Tensor, "d n"]) -> Float[Tensor, "d m h"]:
        sums = self._sum_y.new_zeros(len(permuted), *self._sum_y.shape)
        for rows in tracked([*data.blocks()], "permuting labels", visible=False):
            own = permuted[:, rows.start : rows.stop]
            known = own[0] >= 0
            y = data.select(rows).normalized().head_coordinates[:, list(self._sums.layers)].cpu().double()[known]
            for mine, classes in zip(sums, own[:, known], strict=True):
                mine.index_add_(0, classes, y)
        return torch.stack([self._shares(each).sum(0) for each in sums])

    def _distances(self, sum_y: Float[Tensor, "c m h k"]) -> Float[Tensor, "c m h"]:
        found = sum_y.new_zeros(sum_y.shape[:3])
        for at, layer, head in self._heads():
            form = self._form(layer, head)
            found[:, at, head] = distances_of_classes(sum_y[:, at, head], self._counts, form)
        return found.clamp(min=0)

    def _shares(self, sum_y: Float[Tensor, "c m h k"]) -> Float[Tensor, "c m h"]:
        return shares_of_classes(self._distances(sum_y), self._counts, self._variance)

    def result(self, drawn: Float[Tensor, "d m h"], classifier: ZeroShotClassifier | None) -> ClassHeads:
        """The result, with what permuted labels gave."""
        shares, n = self._shares(self._sum_y), float(self._counts.sum())
        expected = torch.where(self._variance.isnan(), torch.nan, (len(self._counts) - 1) / (n - 1))
        towards, whole = (None, None) if classifier is None else self._towards(classifier)
        return ClassHeads(
            classes=tuple(self._names[at] for at in self._present.tolist()),
            counts=self._sums.counts[self._present],
            empty=tuple(name for name, count in zip(self._names, self._sums.counts.tolist(), strict=True) if not count),
            n_unlabelled=self._sums.n_unlabelled,
            layers=self._sums.layers,
            n_layers=len(self._moments.sum_y),
            eta_squared=shares.sum(0),
            chance=drawn.mean(0) if len(drawn) else expected,
            chance_most=drawn.max(0).values if len(drawn) else torch.full_like(expected, torch.nan),
            permutations=len(drawn),
            total_variance=self._variance.nan_to_num(0.0),
            shares=shares,
            lengths=self._distances(self._sum_y).sqrt(),
            towards=towards,
            towards_whole=whole,
        )

    def _towards(self, classifier: ZeroShotClassifier) -> tuple[Float[Tensor, "c m h"], Float[Tensor, " c"]]:
        """What each head, and the whole embedding, adds to a class towards its text, less the mean over texts."""
        texts = classifier.embeddings.cpu().double()
        own = texts[self._present] - texts.mean(0)

        def from_the_mean(sums: Float[Tensor, "c *rest"]) -> Float[Tensor, "c *rest"]:
            return sums / self._counts.reshape(-1, *(1 for _ in sums.shape[1:])) - sums.sum(0) / self._counts.sum()

        deviations, found = from_the_mean(self._sum_y), self._sum_y.new_zeros(self._sum_y.shape[:3])
        for at, layer, head in self._heads():
            directions = equations.towards(self._map(layer, head), own).T
            found[:, at, head] = equations.along(deviations[:, at, head], directions)
        return found, equations.along(from_the_mean(self._sums.sum_embedding.cpu()[self._present]), own)
