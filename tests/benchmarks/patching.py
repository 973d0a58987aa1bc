"""Time of patching every head, over one run of the model for each, as TransformerLens makes them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from clip_lens_plugin import HookedCLIP, patch_heads
from clip_lens_plugin.scenes import draw, sample_scenes
from tests.benchmarks.forward import KEEP_MEMORY, paired_ratios, random_model
from tests.benchmarks.measure import printed_last

PAIRS = {"scenes": 8, "ViT-B-16": 1}
BOUND = 0.60


def time_patching() -> Iterator[tuple[str, str, str, str]]:
    """The rows of the table."""
    for name, n in PAIRS.items():
        measured = json.loads(printed_last("tests.benchmarks.patching", name, environment=os.environ | KEEP_MEMORY))
        what = f"{name}: every head patched, {n} {'pair' if n == 1 else 'pairs'}"
        against = f"{measured['runs']} single runs, equal to {measured['difference']:.0e} of the metric"
        yield what, f"{measured['ratio']:.3f} x", f"{BOUND:.2f} x", against


def single_runs(model: HookedCLIP, corrupted: Tensor, clean: Tensor) -> Tensor:
    """The first coordinate [b, l, h] of every patched run, and nothing else that would take time."""
    names = [f"blocks.{l}.attn.hook_z" for l in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(clean, names_filter=names)

    def patched(name: str, head: int) -> Tensor:
        def put(z: Tensor, hook: object) -> Tensor:
            z[:, :, head] = cache[name][:, :, head]
            return z

        return model.run_with_hooks(corrupted, fwd_hooks=[(name, put)])[:, 0]

    heads = range(model.cfg.n_heads)
    by_layer = [torch.stack([patched(name, head) for head in heads], dim=1) for name in names]
    return torch.stack(by_layer, dim=1) - model(corrupted)[:, None, None, 0]


def given(name: str) -> tuple[HookedCLIP, Tensor, Tensor]:
    """The model, corrupted and clean images."""
    n = PAIRS[name]
    if name == "scenes":
        model = HookedCLIP.from_pretrained(name, device="cpu")
        images = model.prepare([draw(scene) for scene in sample_scenes(2 * n, seed=1)])
    else:
        model, images, _ = random_model(name)
    return model, images[:n], images[n : 2 * n]


def _run(name: str) -> None:
    """Prints the ratio, and how far the numbers are apart, which :func:`time_patching` reads."""
    model, *pairs = given(name)
    single = single_runs(model, *pairs)
    together = patch_heads(model, *pairs, lambda embedding: embedding[:, 0]).effects
    difference = float((together - single).abs().max() / model(pairs[0])[:, 0].abs().max())
    ratios = paired_ratios(
        {"together": lambda: patch_heads(model, *pairs, lambda embedding: embedding[:, 0])},
        lambda: single_runs(model, *pairs),
    )
    print(json.dumps({"ratio": ratios["together"], "difference": difference, "runs": single[0].numel()}))


if __name__ == "__main__":
    with torch.no_grad():
        _run(sys.argv[1])
