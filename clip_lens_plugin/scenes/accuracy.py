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
    unit = torch.nn.functional.normalize
    with torch.no_grad():
        rows = np.arange(len(drawn.scenes))
        parts = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        images = torch.cat([unit(encode_image(drawn.images(part)), dim=-1) for part in parts])
        accuracy = {}
        for a, name in enumerate(ATTRIBUTES):
            texts = [template.format(prompt) for prompt in prompts(name) for template in TEMPLATES]
            each = unit(encode_text(texts), dim=-1)
            values = unit(each.unflatten(0, (-1, len(TEMPLATES))).mean(1), dim=-1)
            truth = torch.from_numpy(drawn.codes[:, a]).to(images.device)
            right = (images @ values.T).argmax(-1) == truth
            accuracy[name] = right[truth >= 0].double().mean().item()
    return accuracy
