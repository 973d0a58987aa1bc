"""What checking a model against its source adds to wrapping it, over the source's forward of one image."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from unittest.mock import patch

import open_clip
import torch

from clip_lens_plugin import HookedCLIP
from tests.benchmarks.measure import seconds

NAME, ROUNDS = "ViT-B-16", 7


def time_wrapping() -> Iterator[tuple[str, str, str, str]]:
    """The row of the table."""
    torch.manual_seed(0)
    clip = open_clip.create_model(NAME)
    image = torch.randn(1, 3, 224, 224)

    def wrap() -> None:
        HookedCLIP.from_open_clip(clip)

    def wrap_unverified() -> None:
        with patch("clip_lens_plugin.model.hooked_clip.can_verify", return_value=False):
            wrap()

    wrap(), clip.encode_image(image)
    rounds = [
        (seconds(wrap) - seconds(wrap_unverified)) / seconds(lambda: clip.encode_image(image)) for _ in range(ROUNDS)
    ]
    measured = f"{statistics.median(rounds):.2f} x"
    yield f"{NAME}: what verify adds to wrapping", measured, "2.00 x", "encode_image of one image"
