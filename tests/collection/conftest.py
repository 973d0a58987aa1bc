"""The embedded model, drawn scenes, and many small blocks, so that a store of a few samples has a middle."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.collection import ContributionStore, collect
from clip_lens_plugin.scenes.dataset import ScenesDataset

BLOCK = 8
SEED = 3
collect_rows = partial(collect, what="contributions", batch_size=4, progress=False)


class BrokenScenes(ScenesDataset):
    """Scenes that print themselves as whole ones do, of which some raise when they are read."""

    def __init__(self, n: int, errors: dict[int, BaseException]) -> None:
        super().__init__(n, SEED, "background")
        self.errors = errors

    def __getitem__(self, position: int) -> Any:
        if position in self.errors:
            raise self.errors[position]
        return super().__getitem__(position)


def scenes(n: int) -> ScenesDataset:
    """``n`` scenes, labelled by their background."""
    return ScenesDataset(n, SEED, "background")


def preprocessed(model: HookedCLIP, positions: range | list[int]) -> torch.Tensor:
    """Scenes as the model takes them [b, 3, height, width]."""
    dataset = scenes(max(positions) + 1)
    return torch.stack([model.preprocess(dataset[i][0]) for i in positions])


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file but the lock, by its path inside the folder."""
    paths = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name != "collect.lock"}


@pytest.fixture(scope="session")
def clip() -> HookedCLIP:
    """The embedded model; no test changes it."""
    return HookedCLIP.from_pretrained("scenes", device="cpu")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 8 samples, kept one by one."""
    monkeypatch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", BLOCK)
    monkeypatch.setattr("clip_lens_plugin.collection.running.progress.SECONDS", 0.0)
    monkeypatch.setattr("clip_lens_plugin.collection.running.progress.WRITING", 1e9)


@pytest.fixture(scope="session")
def finished(clip: HookedCLIP, tmp_path_factory: pytest.TempPathFactory) -> ContributionStore:
    """21 scenes with rows in float32, of which 5 and 9 could not be read; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", BLOCK)
        dataset = BrokenScenes(21, {5: OSError("cut short"), 9: OSError("cut short")})
        return collect_rows(clip, dataset, tmp_path_factory.mktemp("finished"), dtype="float32")
