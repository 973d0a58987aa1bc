"""Heads removed until the answer flips: found on the table, where heads add up, and verified by runs without them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.ablation.hooks import mean_ablation, zero_ablation
from clip_lens_plugin.bars import Bars
from clip_lens_plugin.decisions.replacing import Replacement
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.numerics.precision import full_precision

MOST_REMOVED = 20
"""Heads that are removed together at most."""

Head = tuple[int, int]
Found = Literal["table", "run", "neither"]


@dataclass(frozen=True)
class RemovedHeads:
    """Some heads removed together, in the sum and in a run of the model.

    Attributes:
        heads: (layer, head) pairs, the one that speaks most for the answer first.
        found: "table" if they are the fewest that flip the answer in the sum, "run" if they are the first, one head
            after the other in that order, without which a run flips, "neither" if they are the most that were tried.
        direct: the gap of the sum without them, the norm of the embedding frozen.
        total: the gap of the run without them, where later layers react.
        flips: whether the run's answer is the other one.
        nearest: the text nearest to the image in that run.
        random: gaps of runs without random sets of as many other heads.
        random_flips: how many of these flip the answer.
    """

    heads: tuple[Head, ...]
    found: Found
    direct: float
    total: float
    flips: bool
    nearest: str
    random: tuple[float, ...]
    random_flips: int


@dataclass(frozen=True)
class Question:
    """Two texts, and an image's answer.

    Attributes:
        names: of the texts that were to choose from.
        embeddings: unit vectors [t, e].
        pair: positions of the two that are compared.
        gap: cosine with the first less cosine with the second, of the intact model.
        least: size of a gap that is none, but rounding.
    """

    names: tuple[str, ...]
    embeddings: Float[Tensor, "t e"]
    pair: tuple[int, int]
    gap: float
    least: float

    @property
    def direction(self) -> Float[Tensor, "1 e"]:
        """What the gap is the dot product with."""
        a, b = self.pair
        return (self.embeddings[a] - self.embeddings[b])[None]

    def is_flipped(self, gap: float) -> bool:
        """Whether a gap is on the other side of zero than the image's own."""
        return (gap if self.gap < 0 else -gap) > self.least

    def answer(self, cosines: Float[Tensor, " t"]) -> tuple[float, str]:
        """The gap, and the nearest text."""
        a, b = self.pair
        return float(cosines[a] - cosines[b]), self.names[int(cosines.argmax())]


Run = Callable[[Sequence[Head]], Float[Tensor, " t"]]
"""The cosines of the image in a run without some heads."""


def removals(
    asked: Question, removed: Float[Tensor, "l h"], run: Run, random_sets: int, seed: int
) -> tuple[RemovedHeads, ...]:
    """The fewest heads that flip the answer in the sum; and, where a run does not flip without them, those that do.

    What heads add to the sum is additive, so the fewest are those that speak most for the answer. Where the run does
    not flip, or the sum does not with :data:`MOST_REMOVED`, heads are removed from the run in the same order.

    Args:
        asked: the texts, and the image's gap.
        removed: what is taken from the gap if a head is replaced in the sum.
        run: runs the model without some heads.
        random_sets: drawn for each set.
        seed: of the draws.

    Returns:
        One set if its run flips; two if the sum flips earlier than the run, or the run does not at all; none if no head
        speaks for the answer.
    """
    with Bars(visible=False) as bars:
        task = bars.add_task("removing heads", total=None)

        def followed(heads: Sequence[Head]) -> Float[Tensor, " t"]:
            found = run(heads)
            bars.advance(task)
            return found

        return _removals(asked, removed, followed, random_sets, seed)


def _removals(
    asked: Question, removed: Float[Tensor, "l h"], run: Run, random_sets: int, seed: int
) -> tuple[RemovedHeads, ...]:
    n_layers, n_heads = removed.shape
    towards = removed.cpu().double() * (1 if asked.gap > 0 else -1)
    order = [divmod(int(i), n_heads) for i in towards.flatten().argsort(descending=True, stable=True)]
    speaking = [head for head in order if towards[head] > 0][:MOST_REMOVED]
    taken = [float(removed[head]) for head in speaking]
    direct = [asked.gap - math.fsum(taken[:n]) for n in _counts(speaking)]

    def measured(n: int, found: Found) -> RemovedHeads:
        heads = tuple(speaking[:n])
        gap, nearest = asked.answer(run(heads))
        sets = random_others(heads, n_layers, n_heads, random_sets, seed)
        gaps = [asked.answer(run(each))[0] for each in sets]
        flips = sum(asked.is_flipped(each) for each in gaps)
        return RemovedHeads(heads, found, direct[n - 1], gap, asked.is_flipped(gap), nearest, tuple(gaps), flips)

    on_table = next((n for n in _counts(speaking) if asked.is_flipped(direct[n - 1])), None)
    found = [] if on_table is None else [measured(on_table, "table")]
    if found and found[0].flips:
        return tuple(found)
    for n in range((on_table or 0) + 1, len(speaking) + 1):
        if asked.is_flipped(asked.answer(run(speaking[:n]))[0]):
            return (*found, measured(n, "run"))
    if speaking and on_table != len(speaking):
        found.append(measured(len(speaking), "neither"))
    return tuple(found)


def _counts(heads: Sequence[Head]) -> range:
    return range(1, len(heads) + 1)


def random_others(heads: Sequence[Head], n_layers: int, n_heads: int, n_sets: int, seed: int) -> list[tuple[Head, ...]]:
    """Random sets of as many other heads: of the same layers as far as these have others, else of the nearest.

    None if there are fewer other heads than heads.
    """
    every = [(l, h) for l in range(n_layers) for h in range(n_heads)]
    others = sorted(set(every) - set(heads))
    if len(others) < len(heads):
        return []
    rng = np.random.default_rng(seed)
    return [_drawn(rng, heads, others) for _ in range(n_sets)]


def _drawn(rng: np.random.Generator, heads: Sequence[Head], others: Sequence[Head]) -> tuple[Head, ...]:
    free, drawn = list(others), []
    for layer, _ in heads:
        away = min(abs(l - layer) for l, _ in free)
        near = [head for head in free if abs(head[0] - layer) == away]
        drawn.append(near[int(rng.integers(len(near)))])
        free.remove(drawn[-1])
    return tuple(drawn)


def runs_without(
    model: ImageModel, pixels: Float[Tensor, "1 3 height width"], texts: Float[Tensor, "t e"], replacement: Replacement
) -> Run:
    """What runs the model on one image without some heads, and gives its cosines with texts."""

    def run(heads: Sequence[Head]) -> Float[Tensor, " t"]:
        hooks = []
        for layer in sorted({layer for layer, _ in heads}):
            numbers = [h for l, h in heads if l == layer]
            means = replacement.activations
            hook = zero_ablation(numbers) if means is None else mean_ablation(means, numbers)
            hooks.append((f"blocks.{layer}.attn.hook_z", hook))
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            embedding = model(pixels)
        return cosines(embedding, texts)[0]

    return run


@full_precision()
def cosines(embedding: Float[Tensor, "b e"], texts: Float[Tensor, "t e"]) -> Float[Tensor, "b t"]:
    """The cosine of each image with each text, in the texts' dtype."""
    return equations.cosines(embedding.to(texts), texts)
