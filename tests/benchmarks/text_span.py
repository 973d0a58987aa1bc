"""Time of TextSpan on moments, and of the paper's form on the images themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from open_clip.model import CLIP

from clip_lens_plugin import HookedCLIP, Moments, TextPool, text_span
from clip_lens_plugin.decomposition.readout import Readout
from tests.conftest import TEXT_CFG
from tests.support.reference import plain_text_span

TEXTS, STEPS, IMAGES = 3498, 60, 5000
HEADS = 12


def time_text_span() -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: seconds per head, and how much faster than the plain form (float32, as published)."""
    torch.manual_seed(0)
    vision = {"image_size": 32, "patch_size": 16, "width": 768, "layers": 1, "head_width": 64}
    model = HookedCLIP.from_open_clip(CLIP(512, vision, dict(TEXT_CFG)))
    y = torch.randn(IMAGES, 1, HEADS, 64, dtype=torch.float64) * torch.linspace(1, 0.05, 64)
    moments = Moments(IMAGES, y.sum(0), torch.einsum("blhi,blhj->lhij", y, y))
    texts = torch.nn.functional.normalize(torch.randn(TEXTS, 512), dim=-1)
    pool = TextPool.from_strings([f"text {i}" for i in range(TEXTS)])

    def ours() -> list[int]:
        result = text_span(model, moments, pool, STEPS, heads="all", text_embeddings=texts)
        return result[0, 0].indices

    ours()
    start = time.perf_counter()
    picks = ours()
    seconds = (time.perf_counter() - start) / HEADS
    contributions = (y[:, 0, 0] @ Readout.of(model).head_map(0, 0).double()).float()
    start = time.perf_counter()
    plain_picks, _ = plain_text_span(contributions, texts, STEPS)
    plain = time.perf_counter() - start
    same = sum(a == b for a, b in zip(picks, plain_picks, strict=False))
    yield "TextSpan, 3,498 texts, m = 60, d_head 64", f"{seconds:.3f} s a head", "0.15 s", "on moments"
    speed = f"{plain / seconds:.0f} x faster"
    yield f"the same, {same} of {len(plain_picks)} picks equal", speed, "100 x", f"plain form, {IMAGES} images"
