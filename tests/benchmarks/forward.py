"""Time of a hooked forward, of decompositions and of a full cache, over open_clip's own forward."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import open_clip
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.patch_text import token_scores

BATCH = 8
ROUNDS = 15
TEXTS = 4
MODELS = ("ViT-B-16", "ViT-B-16-SigLIP", "EVA02-B-16")
"""A class token, an attention pool, and rotary positions with gated MLPs and inner norms."""


def random_model(name: str) -> tuple[HookedCLIP, torch.Tensor, torch.Tensor]:
    """The model with random weights, a batch of images, and unit text embeddings."""
    torch.manual_seed(0)
    model = HookedCLIP.from_open_clip(open_clip.create_model(name), model_name=name)
    images = torch.randn(BATCH, 3, *model.cfg.image_size)
    texts = torch.nn.functional.normalize(torch.randn(TEXTS, model.cfg.d_embed), dim=-1)
    return model, images, texts


def cases(
    model: HookedCLIP, images: torch.Tensor, texts: torch.Tensor
) -> dict[str, tuple[Callable[[], object], float]]:
    """What is timed, and the greatest ratio to a plain forward that we accept."""
    return {
        "forward": (lambda: model(images), 1.05),
        "head decomposition": (lambda: model.decompose(images).heads, 1.10),
        "token decomposition towards 4 texts": (lambda: token_scores(model, images, texts), 1.20),
        "every hook cached": (lambda: model.run_with_cache(images), 1.60),
    }


def paired_ratio(one: Callable[[], object], other: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median over rounds of time(one) / time(other), which run in turn."""
    one(), other()
    return statistics.median(_seconds(one) / _seconds(other) for _ in range(rounds))


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def time_cases(model_name: str) -> Iterator[tuple[str, str, str, str]]:
    """A row of the table a case."""
    model, images, texts = random_model(model_name)
    for name, (action, bound) in cases(model, images, texts).items():
        ratio = paired_ratio(action, lambda: model.clip.encode_image(images))
        yield f"{model_name}: {name}", f"{ratio:.3f} x", f"{bound:.2f} x", "open_clip encode_image"
