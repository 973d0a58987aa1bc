"""Contributions in which chosen heads carry a class or a cue, and nothing else says much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from clip_lens_plugin import Contributions, Groups, HookedCLIP
from tests.conftest import random_clip, random_images

CORE, CUES = (2, 0), ((1, 1), (2, 3))
"""Heads that carry the class and the cue in :func:`spurious`."""

SIZES = (40, 12, 14, 44)
"""Images of each group, (class, cue) 00, 01, 10, 11: class and cue go together."""


@pytest.fixture(scope="session")
def small() -> HookedCLIP:
    """A tower of three layers with four heads, in float64."""
    return HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))


@pytest.fixture(scope="session")
def texts(small) -> Tensor:
    made = torch.randn(2, small.cfg.d_embed, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return torch.nn.functional.normalize(made, dim=-1)


@pytest.fixture(scope="session")
def grouped() -> Groups:
    """Two classes by two cues, in a random order."""
    number = np.random.default_rng(3).permutation(np.repeat(np.arange(4), SIZES))
    return Groups.of(number // 2, number % 2, classes=["bird", "fish"], cue_names=["air", "water"])


@pytest.fixture(scope="session")
def plain(small, grouped) -> Contributions:
    """Of noise."""
    return small.decompose(random_images(small, len(grouped), seed=11))


def planted(plain: Contributions, texts: Tensor, amounts: Mapping[tuple[int, int], Tensor]) -> Contributions:
    """The same, where heads add exactly so much to the cosine margin besides.

    What enters block 0 makes all embeddings equally long, beside the texts' difference.
    """
    parts, direction = plain._parts, texts[1] - texts[0]
    coordinates, embedding = parts.coordinates.clone(), parts.embedding.clone()
    length = 4 * embedding.norm(dim=-1).max()
    for (layer, head), amount in amounts.items():
        head_map = plain.readout.head_map(layer, head)
        along = head_map @ direction
        added = length * amount[:, None] * along / along.square().sum()
        coordinates[:, layer, head] += added
        embedding += added @ head_map
    beside = torch.nn.functional.normalize(texts[0] + texts[1], dim=0)  # Orthogonal to their difference.
    along = embedding @ beside
    step = -along + (along.square() - embedding.square().sum(-1) + length**2).sqrt()
    lifted = step[:, None] * beside
    changed = replace(parts, coordinates=coordinates, embedding=embedding + lifted, embed=parts.embed + lifted)
    return Contributions(plain.readout, changed)


@pytest.fixture(scope="session")
def spurious(plain, texts, grouped) -> Contributions:
    """One head tells the classes, less surely than two others tell the cue."""
    generator = torch.Generator().manual_seed(2)
    y, a = (torch.from_numpy(2.0 * each - 1.0) for each in (grouped.labels, grouped.values))
    noise = 0.03 * torch.randn(3, len(y), generator=generator, dtype=torch.float64)
    centre = -planted(plain, texts, {}).normalized().embedding.mean(0) @ (texts[1] - texts[0])
    amounts = {CORE: centre + 0.08 * y + noise[0], CUES[0]: 0.08 * a + noise[1], CUES[1]: 0.06 * a + noise[2]}
    return planted(plain, texts, amounts)
