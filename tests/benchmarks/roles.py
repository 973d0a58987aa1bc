"""Time of roles of the late heads of ViT-B-16, with both nulls and the bootstrap.

Alone: ``python -m tests.benchmarks.roles``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from open_clip.model import CLIP

from clip_lens_plugin import HookedCLIP, Moments, TextPool, head_roles
from tests.conftest import TEXT_CFG

TEXTS, PARTS, IMAGES = 3498, 50, 100
"""Images of each part: the time does not depend on them."""

BOUND = 60


def time_roles() -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: seconds for all 48 heads."""
    torch.manual_seed(0)
    vision = {"image_size": 32, "patch_size": 16, "width": 768, "layers": 4, "head_width": 64}
    model = HookedCLIP.from_open_clip(CLIP(512, vision, dict(TEXT_CFG)))
    scale = torch.linspace(1, 0.05, 64, dtype=torch.float64)
    parts = []
    for _ in range(PARTS):
        y = torch.randn(IMAGES, 4, 12, 64, dtype=torch.float64) * scale
        parts.append(Moments(IMAGES, y.sum(0), torch.einsum("blhi,blhj->lhij", y, y), "cosine"))
    common = torch.randn(1, 512) + torch.randn(TEXTS, 60) @ torch.randn(60, 512) / 30
    texts = torch.nn.functional.normalize(common + torch.randn(TEXTS, 512), dim=-1)
    pool = TextPool([f"text {i}" for i in range(TEXTS)], [f"theme {i % 30}" for i in range(TEXTS)])
    start = time.perf_counter()
    found = head_roles(model, parts, pool, text_embeddings=texts, n_nulls=200, n_bootstraps=50)
    seconds = time.perf_counter() - start
    what = f"roles of {len(found)} heads, 3,498 texts, {found.n_picks} picks, d_head 64"
    yield what, f"{seconds:.1f} s", f"{BOUND} s", "2 x 200 nulls, 50 bootstraps of 50 parts"


if __name__ == "__main__":
    for row in time_roles():
        print(" | ".join(row), flush=True)
