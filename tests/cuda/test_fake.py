"""Every public function on tensors of a fake GPU: no two devices meet, and the results are those of the CPU.

Each runs with the model on the GPU, with the GPU as the default device, and with both apart.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from open_clip.transform import image_transform
from torch import Tensor

import clip_lens_plugin
from clip_lens_plugin import HookedCLIP, ablation, patch_text, retrieval, stacked_weights, views
from clip_lens_plugin.means import ComponentSums
from tests.cuda.cases import CASES, N, Given
from tests.cuda.fake import CPU, CUDA, FakeCudaTensor, MixedDevicesError, fake_cuda
from tests.families import FAMILIES

TOWERS = {"class token": "plain", "mean": "norm_then_mean", "attention pool": "SigLIP"}
WHERE = {"model": (CUDA, False), "model and default": (CUDA, True), "default": (CPU, True)}
"""Where the model is put, and whether the GPU is the default device."""


@cache
def model_of(tower: str) -> HookedCLIP:
    """Random weights; made once, and moved to and fro."""
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    return HookedCLIP.from_open_clip(FAMILIES[TOWERS[tower]](), image_transform(32, is_train=False), tokenizer)


@contextmanager
def given_on(tower: str, device: torch.device, folder: Path) -> Iterator[Given]:
    """The model on the device, and noise where the default device puts it."""
    torch.manual_seed(0)
    images = [torch.randn(N, 3, 32, 32) for _ in range(2)]
    folder.mkdir(parents=True, exist_ok=True)
    model = model_of(tower).to(device)
    try:
        yield Given(model, *images, folder)
    finally:
        model.labels = None
        model.to(CPU)


@cache
def on_the_cpu(name: str, tower: str, folder: Path) -> Any:
    """What a case gives without any GPU."""
    with given_on(tower, CPU, folder) as given:
        return CASES[name](given)


def compare(found: Any, expected: Any) -> None:
    """The same numbers up to rounding, the same words."""
    if isinstance(expected, Tensor):
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found.detach().cpu(), expected.detach(), rtol=1e-3, atol=1e-4, equal_nan=True)
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-4)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        compare(list(found.values()), list(expected.values()))
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for each, other in zip(found, expected, strict=True):
            compare(each, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    else:
        assert found == expected


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_LENS_CACHE", "")
    monkeypatch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 4)


@pytest.mark.parametrize(
    ("tower", "where"),
    [*(("class token", where) for where in WHERE), ("mean", "model and default"), ("attention pool", "model and default")],
)
@pytest.mark.parametrize("name", CASES)
def test_the_fake_gpu_gives_what_the_cpu_gives(
    name: str, tower: str, where: str, tmp_path: Path, session_folder: Path
) -> None:
    expected = on_the_cpu(name, tower, session_folder / name / tower)
    device, default = WHERE[where]
    with fake_cuda(default) as gpu, given_on(tower, device, tmp_path / "gpu") as given:
        compare(CASES[name](given), expected)
    assert gpu.ran


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cpu")
