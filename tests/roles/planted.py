"""Heads of a small random model, of which one is planted with what texts of one theme say; and pools."""

from __future__ import annotations

import torch
from torch import Tensor

from clip_lens_plugin import HookedCLIP, Moments, TextPool
from clip_lens_plugin.decomposition.readout import Readout
from tests.conftest import random_clip

HEAD, THEME = (2, 1), "planted"
N_IMAGES, N_PARTS, N_OF_THEME, N_TEXTS = 400, 20, 10, 60
OTHERS = ("air", "earth", "fire", "water", "aether")


def random_model() -> HookedCLIP:
    """Three layers of four heads of twelve coordinates, in a joint space of 24."""
    return HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))


def planted(model: HookedCLIP, seed: int = 0) -> tuple[list[Moments], TextPool, Tensor]:
    """Moments of disjoint parts, a pool, and its embeddings: :data:`HEAD` varies along two directions that texts name.

    Everything else, heads and texts, is random.
    """
    g = torch.Generator().manual_seed(seed)
    layers, heads, k = 3, 4, 12
    y = torch.randn(N_IMAGES, layers, heads, k, generator=g, dtype=torch.float64)
    two = torch.randn(2, k, generator=g, dtype=torch.float64)
    strength = torch.randn(N_IMAGES, 2, generator=g, dtype=torch.float64) * torch.tensor([4.0, 3.0])
    y[:, HEAD[0], HEAD[1]] = strength @ two + 0.3 * y[:, HEAD[0], HEAD[1]]
    parts = [of_rows(some) for some in y.chunk(N_PARTS)]
    named = torch.nn.functional.normalize(two @ Readout.of(model).head_map(*HEAD).detach(), dim=-1)
    noise = torch.randn(N_TEXTS, 24, generator=g, dtype=torch.float64)
    own = torch.rand(N_OF_THEME, 2, generator=g, dtype=torch.float64) @ named + 0.05 * noise[:N_OF_THEME]
    embeddings = torch.nn.functional.normalize(torch.cat([own, noise[N_OF_THEME:]]), dim=-1)
    themes = [THEME] * N_OF_THEME + [OTHERS[i % len(OTHERS)] for i in range(N_TEXTS - N_OF_THEME)]
    return parts, TextPool([f"text {i}" for i in range(N_TEXTS)], themes), embeddings


def of_rows(y: Tensor) -> Moments:
    """The moments of head coordinates [n, l, h, k]."""
    return Moments(len(y), y.sum(0), torch.einsum("blhi,blhj->lhij", y, y), "cosine", "separate", 1e-12)


def random_pool(seed: int) -> tuple[TextPool, Tensor]:
    """Unit vectors that say nothing, with themes that do not either."""
    g = torch.Generator().manual_seed(1000 + seed)
    embeddings = torch.nn.functional.normalize(torch.randn(N_TEXTS, 24, generator=g, dtype=torch.float64), dim=-1)
    themes = [OTHERS[i % len(OTHERS)] for i in range(N_TEXTS)]
    return TextPool([f"text {i}" for i in range(N_TEXTS)], themes), embeddings
