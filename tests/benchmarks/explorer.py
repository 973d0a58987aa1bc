"""How long the explorer takes to answer about a picture that was run before, and to search many: ViT-B-16."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator

import numpy as np
import open_clip
import torch
from PIL import Image

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.app.answers import image_answer, switched_off
from clip_lens_plugin.app.asked import AskedPictures
from clip_lens_plugin.app.explored import Explored, Spelled
from clip_lens_plugin.app.frame import framed
from clip_lens_plugin.app.page import Question
from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.app.state import State
from clip_lens_plugin.describe.embedded import EmbeddedTexts
from clip_lens_plugin.report.in_reach import pictures_in_reach
from clip_lens_plugin.retrieval import nearest_images, nearest_to_text
from clip_lens_plugin.texts.pool import TextPool
from tests.benchmarks.collect import random_store
from tests.benchmarks.measure import seconds
from tests.benchmarks.memory import _status

NAME, PICTURES, ROUNDS = "ViT-B-16", 8, 5
NEURONS, TEXTS, N_TEXTS = "L8", ("a dog", "a cat"), 3498
NEW_TEXT, OFF = 0.5, 0.1
"""Bounds in seconds: of an answer to a new text, and of heads switched off in the sum."""

ROWS, SEARCH = 50_000, 1.0
"""Rows of a store that is searched, and the bound in seconds for one head."""

FIVE = [(11, 3), (11, 5), (10, 1), (9, 7), (8, 2)]


def time_explorer() -> Iterator[tuple[str, str, str, str]]:
    """The rows of the table."""
    os.environ["CLIP_LENS_CACHE"] = ""
    torch.manual_seed(0)
    clip, _, preprocess = open_clip.create_model_and_transforms(NAME)
    model = HookedCLIP.from_open_clip(clip, preprocess, open_clip.get_tokenizer(NAME), model_name=NAME)
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)) for _ in range(PICTURES)]
    data = model.decompose(pictures).normalized()
    found = pictures_in_reach(data)
    assert found is not None
    explored, numbers = Explored(model, data, found, Spelled("", str)), itertools.count()
    kept = AskedPictures(model)
    first = seconds(lambda: kept.of(explored.photograph(0)))
    asked = kept.of(explored.photograph(0))

    def new_text() -> object:
        scores = image_answer(explored, asked, (f"text number {next(numbers)}", "a dog"))[1]
        return framed([scores.view()])

    def off() -> object:
        return next(switched_off(explored, asked, ("a dog", "a cat"), ("L11", "L10H3"), "mean"))

    def neurons() -> object:
        *_, last = PAGES["neurons"].answer(
            Question(explored, lambda: asked, State("neurons", texts=TEXTS, neuron=NEURONS), 0)
        )
        return last

    off()  # Means are taken once, and kept.
    yield f"{NAME}: a picture is run", f"{first:.2f} s", "", ""
    took = min(seconds(new_text) for _ in range(ROUNDS))
    yield f"{NAME}: a new text, from the typed words to the page", f"{took:.2f} s", f"{NEW_TEXT} s", ""
    took = min(seconds(off) for _ in range(ROUNDS))
    yield f"{NAME}: heads switched off in the sum", f"{took:.2f} s", f"{OFF} s", ""
    # The pool's embeddings are kept on disk by users, and are here drawn by chance: they cost the same to compare with.
    texts = torch.nn.functional.normalize(torch.randn(N_TEXTS, model.cfg.d_embed), dim=1)
    explored.__dict__["pool"] = EmbeddedTexts(TextPool([f"text {i}" for i in range(N_TEXTS)]), texts)
    first, again = seconds(neurons), min(seconds(neurons) for _ in range(ROUNDS))
    yield (
        f"{NAME}: neurons of {NEURONS} on {PICTURES} pictures, nothing kept; kept",
        f"{first:.1f} s; {again:.2f} s",
        "",
        "",
    )
    yield from _searches(model)


def _searches(model: HookedCLIP) -> Iterator[tuple[str, str, str, str]]:
    """Of a store of random rows, about 3 GB on the disk, which takes a minute or two to write."""
    embedding = model.encode_text(["a dog"])
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(model, folder, ROWS)
        asked = {
            "one head": (lambda: nearest_images(store, 5, heads=FIVE[:1]), f"{SEARCH} s"),
            "five heads": (lambda: nearest_images(store, 5, heads=FIVE), ""),
            "one head, by a text": (
                lambda: nearest_to_text(store, "a dog", heads=FIVE[:1], text_embeddings=embedding),
                f"{SEARCH} s",
            ),
        }
        for what, (search, bound) in asked.items():
            first, before = seconds(search), _status("VmHWM")
            took = min(seconds(search) for _ in range(ROUNDS))
            note = f"the first time {first:.2f} s; memory at most {before:.0f} MB"
            yield f"{NAME}: {ROWS:,} rows searched by {what}", f"{took:.2f} s", bound, note


if __name__ == "__main__":
    with torch.no_grad():
        for row in time_explorer():
            print(*row, sep=" | ")
