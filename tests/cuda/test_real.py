"""What a fake GPU cannot show, on a real one: ``python -m pytest -m cuda``. The same bodies run on the CPU, always."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.multiprocessing as processes
from open_clip.transform import image_transform
from torch import Tensor

from clip_lens_plugin import (
    HookedCLIP,
    Moments,
    TextPool,
    attribution_patching,
    collect,
    mean_ablation_curve,
    patch_text_map,
    text_span,
)
from clip_lens_plugin.collection.processes.ranks import Ranks
from clip_lens_plugin.retrieval import extreme_images, nearest_images
from clip_lens_plugin.scenes.dataset import ScenesDataset
from tests.support.families import FAMILIES

pytestmark = pytest.mark.slow

N, TEXTS = 12, ["a red car", "a blue dog", "an old house", "a cup"]
TOWERS = ["plain", "norm_then_mean", "SigLIP"]
NO_GPU = "no GPU of CUDA here"


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)]
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def _plain_settings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CLIP_LENS_CACHE", "")
    monkeypatch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 4)
    yield
    torch.set_default_device(None)
    torch.set_float32_matmul_precision("highest")


def model_on(device: str, tower: str = "plain") -> HookedCLIP:
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    torch.manual_seed(0)
    return HookedCLIP.from_open_clip(FAMILIES[tower](), image_transform(32, is_train=False), tokenizer).to(device)


def noise() -> Tensor:
    return torch.randn(N, 3, 32, 32, generator=torch.Generator("cpu").manual_seed(0), device="cpu")


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    """Relative to the whole."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return bool((found - expected).norm() <= tolerance * expected.norm())


@pytest.mark.parametrize("tower", TOWERS)
def test_a_decomposition_is_that_of_float64_on_the_cpu(device: str, tower: str) -> None:
    exact = model_on("cpu", tower).double().decompose(noise())
    # A convolution of a GPU is TF32's unless set otherwise.
    with torch.backends.cudnn.flags(allow_tf32=False):
        found = model_on(device, tower).decompose(noise(), tokens=True, strict=True)
    assert near(found.embedding, exact.embedding)
    assert near(found.heads, exact.heads)
    assert near(found.mlps, exact.mlps)
    assert found.heads.device.type == device


def test_estimates_of_patching_are_those_of_float64_on_the_cpu(device: str) -> None:
    """A fake GPU has no gradients."""
    pairs = noise()[:2], noise()[2:4]
    exact = attribution_patching(model_on("cpu").double(), *pairs, lambda embedding: embedding.norm(dim=-1), check=2)
    with torch.backends.cudnn.flags(allow_tf32=False):
        found = attribution_patching(model_on(device), *pairs, lambda embedding: embedding.norm(dim=-1), check=2)
    assert near(found.estimates, exact.estimates, 1e-3)
    assert found.checked == exact.checked
    assert near(found.exact, exact.exact, 1e-3)


@pytest.mark.parametrize("tower", TOWERS)
def test_the_default_device(device: str, tower: str) -> None:
    torch.set_default_device(device)
    model = model_on(device, tower)
    parts, labels = model.decompose(noise(), strict=True), torch.arange(N) % 4
    curve = mean_ablation_curve(parts, model.encode_text(TEXTS), labels)
    assert len(curve) > 4
    assert set(extreme_images(parts, TEXTS[:1], 2)["row"]) <= set(range(N))
    assert nearest_images(parts, 0, 1, 1, 3)["row"].tolist().count(0) == 0


@pytest.mark.parametrize("tower", TOWERS)
def test_tf32_is_complete_and_blames_no_hook(device: str, tower: str) -> None:
    torch.set_float32_matmul_precision("high")
    model = model_on(device, tower)
    parts = model.decompose(noise(), tokens=True, strict=True)
    parts.tokens(0, 1)
    assert not parts.head_edits
    model.verify(noise())
    assert torch.get_float32_matmul_precision() == "high"


def test_autocast_narrows_the_run_and_not_the_parts(device: str) -> None:
    model = model_on(device)
    exact = model.decompose(noise()).heads
    with torch.autocast(device, torch.bfloat16):
        parts = model.decompose(noise(), strict=True)
        assert parts.heads.dtype == torch.float32
        assert near(parts.heads, exact, 5e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_weights(device: str, dtype: torch.dtype) -> None:
    model = model_on(device)
    exact = model.decompose(noise()).heads
    assert near(model.to(dtype).decompose(noise(), strict=True).heads, exact, 5e-2)


def test_moments_and_texts(device: str, tmp_path: Path) -> None:
    model = model_on(device)
    kept = Moments.from_contributions(model.decompose(noise()))
    kept.save(tmp_path / "moments.safetensors")
    both = Moments.load(tmp_path / "moments.safetensors") + kept
    assert near(both.covariance, kept.covariance, 1e-12)
    pool = TextPool.from_strings(TEXTS)
    found = text_span(model, both, pool, 3).to_dataframe()
    assert found["explained_variance"].between(0, 1).all()
    assert found.equals(text_span(model, both, pool, 3).to_dataframe())


def test_a_map_sums_to_the_heads(device: str) -> None:
    model = model_on(device)
    maps = patch_text_map(model, noise(), TEXTS[:2])
    heads = model.decompose(noise()).normalized().towards(model.encode_text(TEXTS[:2])).sum((1, 2))
    assert near(maps.scores, heads, 1e-3)


def test_a_collection_is_resumed_as_if_undisturbed(device: str, tmp_path: Path) -> None:
    model, dataset = model_on(device), ScenesDataset(N, 3, "background")
    whole = collect(model, dataset, tmp_path / "whole", "contributions", batch_size=4, progress=False)

    class CutShort(ScenesDataset):
        def __getitem__(self, position: int) -> Any:
            if position >= 8:
                raise KeyboardInterrupt
            return super().__getitem__(position)

    with pytest.raises(KeyboardInterrupt):
        collect(model, CutShort(N, 3, "background"), tmp_path / "cut", "contributions", batch_size=4, progress=False)
    settings: dict[str, Any] = {"batch_size": 4, "progress": False, "resume": True}
    again = collect(model, dataset, tmp_path / "cut", "contributions", **settings)
    assert near(again.moments.sum_yy, whole.moments.sum_yy, 1e-12)
    assert torch.equal(again[range(N)].heads, whole[range(N)].heads)


def test_nothing_of_a_decomposition_stays(device: str) -> None:
    """Without the collector of cycles: what goes out of sight is freed at once."""
    model, texts = model_on(device), torch.eye(24, device=device)[:4]
    labels = torch.arange(N) % 4
    mean_ablation_curve(model.decompose(noise()), texts, labels)
    gc.collect()
    gc.disable()
    try:
        before = torch.cuda.memory_allocated() if device == "cuda" else 0
        parts = model.decompose(noise(), tokens=True)
        mean_ablation_curve(parts, texts, labels)
        extreme_images(parts, TEXTS[:1], 2)
        seen = [weakref.ref(parts), weakref.ref(parts.embedding)]
        del parts
        assert [each() for each in seen] == [None, None]
        assert device == "cpu" or torch.cuda.memory_allocated() == before
    finally:
        gc.enable()


def collect_as(rank: int, device: str, folder: str, meeting: str) -> None:
    """What each of two processes does."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    assert Ranks.current().world == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 4)
        store = collect(model_on(device), ScenesDataset(N, 3, "background"), folder, batch_size=4, progress=False)
    assert store.moments.n == N
    torch.distributed.destroy_process_group()


def test_two_ranks_on_one_device(device: str, tmp_path: Path) -> None:
    processes.spawn(collect_as, (device, str(tmp_path / "two"), str(tmp_path / "meeting")), nprocs=2)
    model, dataset = model_on(device), ScenesDataset(N, 3, "background")
    one = collect(model, dataset, tmp_path / "one", batch_size=4, progress=False)
    two = collect(model, dataset, tmp_path / "two", batch_size=4, progress=False, resume=True)
    assert near(two.moments.sum_yy, one.moments.sum_yy, 1e-9)
