"""Time and memory of second order: every neuron's scalar over a plain forward, and texts of one layer's neurons."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import torch

from clip_lens_plugin import neuron_scalars, second_order, upstream
from tests.benchmarks.forward import KEEP_MEMORY, paired_ratios, random_model
from tests.benchmarks.measure import printed_last, seconds
from tests.support.live_bytes import LiveBytes

NAME, LAYER, TEXTS, MANY = "ViT-B-16", 4, 1000, 16
TIME, MEMORY, SECONDS = 1.10, 1.30, 5.0
"""Bounds: of the scalars' time and peak over a forward's, and of the text scores."""


def time_second_order() -> Iterator[tuple[str, str, str, str]]:
    """The rows of the table."""
    measured = json.loads(printed_last("tests.benchmarks.second_order", environment=os.environ | KEEP_MEMORY))
    for what, found, bound, against in measured:
        yield f"{NAME}: {what}", found, bound, against


def _run() -> None:
    """Prints each case with what was measured, its bound, and what it is held against."""
    model, images, _ = random_model(NAME)
    texts = torch.nn.functional.normalize(torch.randn(TEXTS, model.cfg.d_embed), dim=-1)

    def plain() -> object:
        return model.clip.encode_image(images)

    def scalars() -> dict[int, torch.Tensor]:
        return neuron_scalars(model, images)

    many = torch.randn(MANY, *images.shape[1:])
    of_many = paired_ratios({"": lambda: neuron_scalars(model, many)}, lambda: model.clip.encode_image(many))
    ratios = paired_ratios({"": scalars, "fed": lambda: upstream(model, images, -1)}, plain)
    rows = [
        (f"all scalars of all neurons, {MANY} images", f"{of_many['']:.3f} x", f"{TIME:.2f} x", "encode_image"),
        (f"the same, {len(images)} images", f"{ratios['']:.3f} x", f"{TIME:.2f} x", "encode_image"),
        ("what feeds each head of the last layer", f"{ratios['fed']:.3f} x", "", "encode_image"),
    ]
    with LiveBytes() as forward:
        plain()
    with LiveBytes() as watched:
        returned = sum(each.nbytes for each in scalars().values())
    grown = (watched.peak - returned) / forward.peak
    rows += [("peak of tensors, all scalars, above what is returned", f"{grown:.2f} x", f"{MEMORY:.2f} x", "its peak")]
    found = second_order(model, images, LAYER)
    took = min(seconds(lambda: found.towards(texts)) for _ in range(3))
    what = f"{len(images)} images, {model.cfg.d_mlp} neurons of layer {LAYER} towards {TEXTS} texts"
    print(json.dumps([*rows, (what, f"{took:.2f} s", f"{SECONDS:.0f} s", "")]))


if __name__ == "__main__":
    with torch.no_grad():
        _run()
