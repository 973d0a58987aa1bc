"""What each component adds to the margin between two texts, for every image: all that groups are studied on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.ablation.data import checked_classes, pieces
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.decomposition.parts.component_shares import component_scores, each_component
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

Part = tuple[str, int | None, int | None]
"""Part, layer and head of a component, as tables have them."""


@dataclass(frozen=True, eq=False)
class Margins:
    """The margin of each of n images towards the second of two texts, taken apart; float64, in cosine units.

    Attributes:
        components: what each column of ``values`` is of, in the order of the model.
        values: what each component adds [n, c]; they sum to ``whole``.
        whole: cosine with the second text less that with the first [n].
    """

    components: tuple[Part, ...]
    values: Float[np.ndarray, "n c"]
    whole: Float[np.ndarray, " n"]

    @property
    def heads(self) -> Float[np.ndarray, "n l h"]:
        """The margins of the heads."""
        return self.values[:, head_places(self.components)]

    @property
    def error(self) -> float:
        """The greatest difference between the sum of an image's components and its margin."""
        return float(np.abs(self.values.sum(1) - self.whole).max(initial=0.0))


def head_places(components: Sequence[Part]) -> np.ndarray:
    """The column of each head [l, h]."""
    found = {(layer, head): at for at, (part, layer, head) in enumerate(components) if part == "head"}
    n_layers, n_heads = (1 + max(int(each) for each in numbers) for numbers in zip(*found, strict=True))  # type: ignore[arg-type]
    return np.array([[found[layer, head] for head in range(n_heads)] for layer in range(n_layers)])


@torch.no_grad()
def margins_of(data: Data, direction: Float[Tensor, " e"]) -> Margins:
    """The margins of all rows, read block by block.

    Args:
        data: contributions, or a store.
        direction: the second text's embedding less the first's.

    Raises:
        ValueError: if there is no row, or a contribution is NaN or infinite.
    """
    components: tuple[Part, ...] = ()
    found: list[np.ndarray] = []
    whole: list[np.ndarray] = []
    for _, own in pieces(data):
        scores = component_scores(own, direction[None].to(own.embedding))
        of_one = list(each_component({name: each[0] for name, each in scores.items()}, together=False))
        components = tuple(each[:3] for each in of_one)
        found.append(torch.stack([scores[name][(slice(None), *at)] for *_, name, at in of_one], dim=1).numpy())
        with full_precision():
            of_embedding = equations.towards(own.embedding, direction[None].to(own.embedding))[:, 0]
        whole.append(of_embedding.double().cpu().numpy())
    if not found:
        raise ValueError("There is no image: give data of one or more.")
    return Margins(components, np.concatenate(found), np.concatenate(whole))


def direction_of(
    data: Data,
    classifier: ZeroShotClassifier | Float[Tensor, "t e"],
    classes: Sequence[str],
    pair: tuple[int, int],
) -> Float[Tensor, " e"]:
    """The second class's text less the first's.

    Args:
        data: that it is used on.
        classifier: of all ``classes``, or of the two alone, in the order of the pair.
        classes: that groups are made of.
        pair: positions of the two among them.

    Raises:
        ValueError: if it is of other classes, or was made with another model.
    """
    texts = checked_classes(data, classifier)
    chosen = [classes[number] for number in pair]
    known, places = (list(classes), pair) if len(texts) == len(classes) else (chosen, (0, 1))
    if len(texts) != len(known):
        raise ValueError(
            f"The classifier has {len(texts)} classes, and the groups {len(classes)} ({few(classes)}): give one of "
            f"all of these, or of the two that are compared, in their order ({few(chosen)})."
        )
    if isinstance(classifier, ZeroShotClassifier):
        classifier.refuse_other_classes(known, "the groups'")
    return texts[places[1]] - texts[places[0]]
