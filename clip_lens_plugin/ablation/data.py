"""What ablations and retrieval are measured on, read piece by piece in cosine units."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_labels as labels_of_classes
from clip_lens_plugin.decomposition.constants import Constants, GivenConstants, checked_constants
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.statistics.means import ComponentSums
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

DONOR_BLOCKS = 8
"""A piece of a store takes its donors from at most this many other pieces, so that few are read for it."""


def constants_of(data: Data, asked: GivenConstants | None) -> Constants:
    """What is done with the constants: as asked, or as in the data.

    Raises:
        ValueError: if they are to be shared out over the rows of a store, which keeps too little for it.
    """
    constants = data.constants if asked is None else checked_constants(asked)
    if constants != data.constants:
        data.select(range(0)).with_constants(constants)
    return constants


def pieces(data: Data, constants: Constants | None = None) -> Iterator[tuple[range, Contributions]]:
    """All rows, in cosine units as in the paper; the constants as in the data if nothing is said.

    Raises:
        ValueError: if a head's contribution or an embedding is NaN or infinite.
    """
    for rows in data.blocks():
        own = data.select(rows).normalized()
        own = own if constants is None else own.with_constants(constants)
        finite = own.head_coordinates.flatten(1).isfinite().all(1) & own.embedding.isfinite().all(1)
        if not bool(finite.all()):
            bad = [rows.start + i for i in (~finite).nonzero().flatten().tolist()]
            raise ValueError(
                f"Head contributions are NaN or infinite, or an embedding is zero, in rows {bad[:5]}: leave such "
                f"images out."
            )
        yield rows, own


def rows_of(data: Data, rows: Int[Tensor, " s"]) -> Contributions:
    """Some rows, in cosine units."""
    return data.select(rows).normalized()


def means_of(source: Data | ComponentSums, constants: Constants | None = None) -> ComponentSums:
    """The means of all components, in cosine units; the constants as in the source if nothing is said.

    Raises:
        ValueError: if they are in other units, or of other constants.
    """
    sums = source if isinstance(source, ComponentSums) else ComponentSums.of(source, constants)
    if sums.unit != "cosine":
        raise ValueError(f"The means are in {sums.unit!r} units, expected 'cosine': sum normalized() contributions.")
    if constants is not None and sums.constants != constants:
        raise ValueError(
            f"The means have constants={sums.constants!r}, but what they replace has {constants!r}: take both from "
            f"decompositions with the same."
        )
    return sums.mean()


def donors(n: int, source: Data, same: bool, seed: int) -> Int[Tensor, " n"]:
    """For each of n rows a random row of ``source`` to take components from; never itself in the same data.

    Raises:
        ValueError: if there is no other row.
    """
    if len(source) < 1 + same:
        raise ValueError("Resampling needs another image to take components from.")
    rng = np.random.default_rng(seed)
    blocks = [np.asarray(rows) for rows in source.blocks()]
    size = n if len(blocks) == 1 else len(blocks[0])
    chosen = np.empty(n, dtype=np.int64)
    for start in range(0, n, size):
        rows = np.arange(start, min(start + size, n))
        few = rng.permutation(len(blocks))[:DONOR_BLOCKS]
        pool = np.concatenate([blocks[b] for b in few])
        if same and len(pool) == 1:
            pool = np.arange(len(source))
        picked = pool[rng.integers(len(pool), size=len(rows))]
        while same and (clash := picked == rows).any():
            picked[clash] = pool[rng.integers(len(pool), size=int(clash.sum()))]
        chosen[rows] = picked
    return torch.from_numpy(chosen)


def checked_classes(data: Data, classes: ZeroShotClassifier | Float[Tensor, "t e"]) -> Float[Tensor, "t e"]:
    """The classes' unit embeddings in the readout's dtype.

    Raises:
        ValueError: if they are of another width or no unit vectors, or a classifier was made with another model.
    """
    embeddings = classes.embeddings if isinstance(classes, ZeroShotClassifier) else classes
    if isinstance(classes, ZeroShotClassifier):
        classes.refuse_other_model(data.readout.image_model)
    return data.readout.checked_texts(embeddings)


def checked_labels(
    data: Data, labels: Int[Tensor, " b"] | None, classes: ZeroShotClassifier | Float[Tensor, "t e"]
) -> Int[Tensor, " b"]:
    """The label of each row, on the CPU; -1 where it is not known.

    Raises:
        ValueError: if none are given or known, their number differs, one is not a class, or labels of a store are
            positions among other classes than a classifier's.
    """
    if labels is None:
        if data.labels is None:
            raise ValueError("These data have no labels of their own: give labels, the true class of each image.")
        if isinstance(classes, ZeroShotClassifier) and data.classes is not None:
            classes.refuse_other_classes(data.classes, "the store's")
        labels = data.labels
    n_classes = len(classes) if isinstance(classes, ZeroShotClassifier) else classes.shape[0]
    known = labels_of_classes(labels, len(data), n_classes)
    if not bool((known >= 0).any()):
        raise ValueError("No image has a known label, so there is no accuracy. Give labels, or collect class folders.")
    return known
