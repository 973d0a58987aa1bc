"""Time of the hooked text tower, of its decomposition and of an interaction, over open_clip's own forwards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import torch

from clip_lens_plugin import decompose_text, interaction
from tests.benchmarks.forward import BATCH, KEEP_MEMORY, paired_ratios, random_model
from tests.benchmarks.measure import printed_last

NAME, BOUND = "ViT-B-16", 1.2


def some_ids(length: int, vocabulary: int) -> torch.Tensor:
    """Token ids of as many texts as there are images, of eight words each."""
    ids = torch.randint(1, vocabulary - 2, (BATCH, length))
    ids[:, 0], ids[:, 9], ids[:, 10:] = vocabulary - 2, vocabulary - 1, 0
    return ids


def time_texts() -> Iterator[tuple[str, str, str, str]]:
    """The rows of the table."""
    measured = json.loads(printed_last("tests.benchmarks.texts", environment=os.environ | KEEP_MEMORY))
    for what, against, ratio, bound in measured:
        yield f"{NAME}: {what}", f"{ratio:.3f} x", f"{bound:.2f} x", f"open_clip {against}"


def _run() -> None:
    """Prints each case with what it is held against, its ratio and its bound, which :func:`time_texts` reads."""
    model, images, _ = random_model(NAME)
    text, clip = model.text, model.clip
    ids = some_ids(text.cfg.context_length, text.cfg.d_vocab)

    def both() -> None:
        clip.encode_image(images), clip.encode_text(ids)

    def taken_apart() -> None:
        found = interaction(model, images, ids)
        found.heads(), found.layers(), found.tokens()

    of_texts: dict[str, Callable[[], object]] = {
        "forward of texts": lambda: text(ids),
        "decomposition of texts, down to words": lambda: decompose_text(model, ids),
    }
    ratios = paired_ratios(of_texts, lambda: clip.encode_text(ids))
    rows = [(what, "encode_text", ratio, BOUND) for what, ratio in ratios.items()]
    whole = paired_ratios({"interaction: heads, layers, patches and words": taken_apart}, both)
    rows += [(what, "encode_image + encode_text", ratio, BOUND) for what, ratio in whole.items()]
    print(json.dumps(rows))


if __name__ == "__main__":
    with torch.no_grad():
        _run()
