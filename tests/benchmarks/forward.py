"""Time of a hooked forward, of decompositions and of a full cache, over open_clip's own forward.

What a run frees, glibc gives back to the system or keeps, by where in its heap the last small block happens to lie.
Given back, the next run waits for fresh pages, and the ratio measures the host. So each model is timed in a process
that keeps its memory between runs, by glibc's own settings in the environment.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import open_clip
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.maps.scoring import token_scores
from tests.benchmarks.measure import printed_last, seconds

BATCH = 8
LEAST_ROUNDS, MOST_ROUNDS, MOST_SECONDS = 4, 15, 20.0
STEADY = 0.01
"""Rounds end when the median's own uncertainty, half the middle range over the root of the rounds, is below this."""
TEXTS = 4
TOKENS = "token decomposition towards 4 texts"
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}
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
        TOKENS: (lambda: token_scores(model, images, texts), 1.10),
        "every hook cached": (lambda: model.run_with_cache(images), 1.60),
    }


def paired_ratios(actions: dict[str, Callable[[], object]], other: Callable[[], object]) -> dict[str, float]:
    """Median over rounds of time(action) / time(other) of each; in a round all run in turn, ``other`` once.

    An action whose median is steady takes no part in later rounds.
    """
    for action in (*actions.values(), other):
        action()
    found: dict[str, list[float]] = {name: [] for name in actions}
    start = time.perf_counter()
    for done in range(MOST_ROUNDS):
        if done >= LEAST_ROUNDS and time.perf_counter() - start > MOST_SECONDS:
            break
        unsteady = [name for name, ratios in found.items() if done < LEAST_ROUNDS or not _is_steady(ratios)]
        if not unsteady:
            break
        plain = seconds(other)
        for name in unsteady:
            found[name].append(seconds(actions[name]) / plain)
    return {name: statistics.median(ratios) for name, ratios in found.items()}


def _is_steady(ratios: list[float]) -> bool:
    low, _, high = statistics.quantiles(ratios, n=4)
    return (high - low) / 2 / len(ratios) ** 0.5 < STEADY


def time_cases(model_name: str) -> Iterator[tuple[str, str, str, str]]:
    """One row of the table for each case."""
    measured = json.loads(printed_last("tests.benchmarks.forward", model_name, environment=os.environ | KEEP_MEMORY))
    for name, (ratio, bound) in measured.items():
        yield f"{model_name}: {name}", f"{ratio:.3f} x", f"{bound:.2f} x", "open_clip encode_image"


def _run(model_name: str) -> None:
    """Prints each case's ratio and its bound, which :func:`time_cases` reads."""
    model, images, texts = random_model(model_name)
    every = cases(model, images, texts)
    actions = {name: action for name, (action, _) in every.items()}
    ratios = paired_ratios(actions, lambda: model.clip.encode_image(images))
    print(json.dumps({name: (ratios[name], bound) for name, (_, bound) in every.items()}))


if __name__ == "__main__":
    with torch.no_grad():
        _run(sys.argv[1])
