"""How often a CLIP names a scene's attributes right, on scenes it never saw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.scenes.attributes import ATTRIBUTES
from clip_lens_plugin.scenes.batches import DrawnScenes
from clip_lens_plugin.scenes.captions import TEMPLATES, prompts
from clip_lens_plugin.scenes.cue import PLANTED, cue_group

HELD_OUT_SEED = 1_000_003
"""Seed of the scenes that accuracy is measured on; training refuses it."""


def zero_shot_accuracy(
    encode_image: Callable[[Float[Tensor, "b 3 side side"]], Float[Tensor, "b e"]],
    encode_text: Callable[[list[str]], Float[Tensor, "t e"]],
    drawn: DrawnScenes,
    batch_size: int = 250,
) -> dict[str, float]:
    """Share of scenes whose nearest prompt of an attribute is the true one, for each attribute.

    Each value's embedding is the mean over :data:`TEMPLATES` of its unit text embeddings. A scene counts for
    the attributes it has: position only where it holds one shape.

    Args:
        encode_image: normalised pictures to embeddings, of any length.
        encode_text: texts to embeddings, of any length.
        drawn: the scenes.
        batch_size: pictures at a time.

    Raises:
        ValueError: if ``batch_size`` is no whole number of at least 1.
    """
    batch_size = checked_number("batch_size", batch_size)
    with torch.no_grad():
        images = _images(encode_image, drawn, batch_size)
        accuracy = {}
        for a, name in enumerate(ATTRIBUTES):
            values = _values(encode_text, prompts(name))
            truth = torch.from_numpy(drawn.codes[:, a]).to(images.device)
            right = (images @ values.T).argmax(-1) == truth
            accuracy[name] = right[truth >= 0].double().mean().item()
    return accuracy


def cue_accuracy(
    encode_image: Callable[[Float[Tensor, "b 3 side side"]], Float[Tensor, "b e"]],
    encode_text: Callable[[list[str]], Float[Tensor, "t e"]],
    drawn: DrawnScenes,
    batch_size: int = 250,
) -> dict[str, float]:
    """Share of scenes whose nearest of the prompts of the planted shapes is the true one, for each group.

    A group is one of the planted shapes on one of the planted backgrounds; other scenes are left out. The prompts
    name no background.

    Args:
        encode_image, encode_text, drawn, batch_size: see :func:`zero_shot_accuracy`.
    """
    shapes = [*PLANTED]
    with torch.no_grad():
        values = _values(encode_text, [prompts("shape")[ATTRIBUTES["shape"].index(shape)] for shape in shapes])
        nearest = (_images(encode_image, drawn, batch_size) @ values.T).argmax(-1).tolist()
    right: dict[str, list[bool]] = {}
    for scene, found in zip(drawn.scenes, nearest, strict=True):
        group = cue_group(scene)
        if group is not None:
            right.setdefault(group, []).append(shapes[found] == scene.shape)
    return {group: float(np.mean(right[group])) for group in sorted(right)}


def _images(
    encode_image: Callable[[Float[Tensor, "b 3 side side"]], Float[Tensor, "b e"]], drawn: DrawnScenes, batch_size: int
) -> Float[Tensor, "n e"]:
    rows = np.arange(len(drawn.scenes))
    parts = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return torch.cat([torch.nn.functional.normalize(encode_image(drawn.images(part)), dim=-1) for part in parts])


def _values(encode_text: Callable[[list[str]], Float[Tensor, "t e"]], phrases: list[str]) -> Float[Tensor, "v e"]:
    """The unit mean over :data:`TEMPLATES` of each phrase's unit embeddings."""
    unit = torch.nn.functional.normalize
    texts = [template.format(phrase) for phrase in phrases for template in TEMPLATES]
    return unit(unit(encode_text(texts), dim=-1).unflatten(0, (-1, len(TEMPLATES))).mean(1), dim=-1)
