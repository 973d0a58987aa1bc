"""What every case of the fake GPU starts from, and where each is entered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import clip_lens_plugin as lens
from clip_lens_plugin.images.preprocessed import shown_pictures
from clip_lens_plugin.scenes.dataset import ScenesDataset

N, TEXTS = 10, ["a red car", "a blue dog", "an old house", "a cup", "the sea", "snow", "two cats"]
LABELS = [0, 1, 2, 3, 0, 1, 2, -1, 0, 1]


@dataclass
class Given:
    """What a case starts from.

    Attributes:
        model: where it was put.
        images, others: noise [10, 3, height, width], where the default device puts it.
        folder: to write to.
    """

    model: lens.HookedCLIP
    images: Tensor
    others: Tensor
    folder: Path
    labels: Tensor = field(default_factory=lambda: torch.tensor(LABELS))

    @cached_property
    def parts(self) -> lens.Contributions:
        return self.model.decompose(self.images)

    @cached_property
    def classes(self) -> lens.ZeroShotClassifier:
        return lens.ZeroShotClassifier.from_labels(self.model, TEXTS[:4], ["{}", "a photo of {}"])

    @cached_property
    def spans(self) -> Any:
        return lens.text_span(self.model, lens.Moments.from_contributions(self.parts), TEXTS, 3)

    @cached_property
    def pool(self) -> lens.TextPool:
        return lens.TextPool.from_strings(TEXTS)

    @cached_property
    def pictures(self) -> list[Image.Image]:
        return shown_pictures(self.images, self.model.preprocess)

    @property
    def by_class_token(self) -> bool:
        return self.model.pooling.reads_class_token_alone

    def collected(self, name: str = "store", **settings: Any) -> lens.ContributionStore:
        dataset = ScenesDataset(N, 3, "background")
        settings = {"what": "contributions", "dtype": "float32", "batch_size": 4, **settings}
        return lens.collect(self.model, dataset, self.folder / name, progress=False, **settings)


Case = Callable[[Given], Any]
CASES: dict[str, Case] = {}


def case(run: Case) -> Case:
    CASES[run.__name__] = run
    return run
