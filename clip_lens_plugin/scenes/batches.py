"""Batches for the contrastive loss: half of them of scenes that are hard to tell apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from clip_lens_plugin.scenes.attributes import ATTRIBUTES, SIDE, Scene
from clip_lens_plugin.scenes.captions import random_caption
from clip_lens_plugin.scenes.drawing import draw

HARD_SHARE = 0.5
GROUPS = 8
FOCUS_FROM = 1750
"""Step from which the captions of a hard batch all name one attribute, because these are learned last."""
FOCUS = {"shape": 0.7, "size": 0.15, "texture": 0.15}
"""Which attribute that is, and how often."""
MEAN = STD = 0.5
"""Pixel statistics, as in the model's ``preprocess_cfg``."""


@dataclass(frozen=True)
class DrawnScenes:
    """Scenes with their pictures. ``codes[i, a]`` is the value's index of attribute a, -1 if none."""

    scenes: list[Scene]
    pixels: UInt8[Tensor, "n side side 3"]
    codes: Int[np.ndarray, "n attributes"]

    @classmethod
    def of(cls, scenes: list[Scene], on_drawn: Callable[[], object] = lambda: None) -> DrawnScenes:
        """Draws every scene; ``on_drawn`` is called after each."""
        pixels = torch.empty(len(scenes), SIDE, SIDE, 3, dtype=torch.uint8)
        for i, scene in enumerate(scenes):
            pixels[i] = torch.from_numpy(np.array(draw(scene)))
            on_drawn()
        codes = np.array([scene.codes() for scene in scenes], dtype=np.int64).reshape(len(scenes), len(ATTRIBUTES))
        return cls(scenes, pixels, codes)

    def images(self, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b 3 side side"]:
        """Normalised as the model's own preprocessing does it."""
        pixels = self.pixels[torch.from_numpy(rows)].permute(0, 3, 1, 2).float() / 255
        return (pixels - MEAN) / STD


@dataclass(frozen=True)
class Batch:
    """Pictures, a caption of each, and ``also_true[i, j]``: caption j holds for another picture i too."""

    images: Float[Tensor, "b 3 side side"]
    captions: list[str]
    also_true: Bool[Tensor, "b b"]


def make_batch(drawn: DrawnScenes, size: int, rng: np.random.Generator, step: int) -> Batch:
    """A batch of ``size`` scenes, hard with probability :data:`HARD_SHARE`.

    A hard batch has :data:`GROUPS` groups, each of scenes that agree in two or three attributes, so that the
    rest (shape, position) has to be read off the picture. From step :data:`FOCUS_FROM` its captions all name one
    attribute of :data:`FOCUS`.
    """
    focus = None
    if rng.random() < HARD_SHARE:
        if step >= FOCUS_FROM:
            focus = str(rng.choice(list(FOCUS), p=list(FOCUS.values())))
        rows = np.concatenate([_alike(drawn, size // GROUPS, rng, focus) for _ in range(GROUPS)])
    else:
        rows = rng.integers(len(drawn.scenes), size=size)
    pairs = [random_caption(drawn.scenes[row], rng, always=focus) for row in rows]
    named = np.full((len(rows), len(ATTRIBUTES)), -1)
    for j, (_, attributes) in enumerate(pairs):
        for a, (name, values) in enumerate(ATTRIBUTES.items()):
            if name in attributes:
                named[j, a] = values.index(attributes[name])
    holds = ((named == -1) | (named == drawn.codes[rows][:, None])).all(-1)
    np.fill_diagonal(holds, False)
    return Batch(drawn.images(rows), [text for text, _ in pairs], torch.from_numpy(holds))


def _alike(drawn: DrawnScenes, size: int, rng: np.random.Generator, focus: str | None) -> Int[np.ndarray, " size"]:
    anchor = drawn.codes[rng.integers(len(drawn.scenes))]
    # Colour and background are learned first, so agreeing in them is what makes a group hard.
    names = ["colour", "background"]
    if rng.random() < 0.5:
        names.append(str(rng.choice([n for n in ("texture", "size", "count") if n != focus])))
    columns = [list(ATTRIBUTES).index(name) for name in names]
    candidates = np.flatnonzero((drawn.codes[:, columns] == anchor[columns]).all(-1))
    return rng.choice(candidates, size)


def contrastive_loss(
    images: Float[Tensor, "b e"],
    texts: Float[Tensor, "b e"],
    logit_scale: Float[Tensor, ""],
    also_true: Bool[Tensor, "b b"],
) -> Float[Tensor, ""]:
    """CLIP's symmetric cross-entropy, without the pairs that are right by chance among its negatives.

    Source: Radford et al. 2021, figure 3; leaving out the false negatives is ours, possible because a scene's
    attributes are known.

    Args:
        images: unit image embeddings.
        texts: unit text embeddings; row i describes image i.
        logit_scale: factor on the cosines, already exponentiated.
        also_true: [i, j] is True where text j holds for image i although it was written for another.
    """
    logits = (logit_scale * images @ texts.T).masked_fill(also_true, float("-inf"))
    target = torch.arange(len(logits), device=logits.device)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
