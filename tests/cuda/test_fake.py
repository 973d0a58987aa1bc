"""Every public function on tensors of a fake GPU: no two devices meet, and the results are those of the CPU.

Each runs with the model on the GPU, with the GPU as the default device, and with both apart.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import open_clip
import pandas as pd
import pytest
import torch
from open_clip.transform import image_transform
from torch import Tensor

import clip_lens_plugin
from clip_lens_plugin import HookedCLIP, ablation, retrieval, views
from clip_lens_plugin.collection.processes.ranks import Ranks
from clip_lens_plugin.decomposition.parts.component_values import ComponentValues
from clip_lens_plugin.maps import patch_text
from clip_lens_plugin.model.weights import stacked_weights
from clip_lens_plugin.statistics.means import ComponentSums
from tests.cuda import cases, class_cases, map_cases, model_cases
from tests.cuda.fake import CPU, CUDA, FakeCudaTensor, FakeGPU, MixedDevicesError, fake_cuda
from tests.cuda.given import CASES, Given, N
from tests.support.families import FAMILIES

pytestmark = pytest.mark.slow

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


PLACED = [
    ("class token", "model and default"),
    *(("class token", where) for where in WHERE if where != "model and default"),
    ("mean", "model and default"),
    ("attention pool", "model and default"),
]
DRAWN = ("drawing", "reporting", "explaining", "editing")
"""Cases that draw or combine what others have computed on every tower: one placement says it all, and takes long."""


@pytest.mark.parametrize(
    ("name", "tower", "where"),
    [(name, *placed) for name in CASES for placed in (PLACED[:1] if name in DRAWN else PLACED)],
)
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


# ---------------------------------------------------------------------- nothing is left out


def names_in(code: CodeType) -> set[str]:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*(names_in(each) for each in inner)) if inner else set(code.co_names)


def public_of(holder: ModuleType | type) -> set[str]:
    """What a module defines or a package exports; the methods and properties of a class."""
    found = {name: value for name, value in vars(holder).items() if not name.startswith("_")}
    if isinstance(holder, type):
        own = (property, classmethod, staticmethod)
        return {name for name, value in found.items() if isinstance(value, own) or inspect.isfunction(value)}
    kept = {name: value for name, value in found.items() if inspect.isfunction(value) or inspect.isclass(value)}
    return {name for name, value in kept.items() if value.__module__.startswith(holder.__name__)}


HOLDERS = {
    "the package": set(clip_lens_plugin.__all__),
    "ablation": public_of(ablation),
    "retrieval": public_of(retrieval),
    "patch_text": public_of(patch_text),
    "views": set(views.__all__),
    **{
        each.__name__: public_of(each)
        for each in (
            *(
                HookedCLIP,
                stacked_weights.StackedWeights,
                ComponentValues,
                ComponentSums,
                ablation.Components,
                ablation.ActivationMeans,
            ),
            *(
                getattr(clip_lens_plugin, name)
                for name in ("Contributions", "ContributionStore", "Moments", "TextPool")
            ),
            *(clip_lens_plugin.ZeroShotClassifier, clip_lens_plugin.PatchTextMap, patch_text.HeadTextScores),
        )
    },
}
"""Holder to its public names."""

OF_OTHERS = {"from_transformers", "from_options", "pooling", "of_run", "of_each_image", "Contributions", "explore"}
"""Made or read by what has a case: every decomposition; a wrapper of Hugging Face's models, by the bridge's tests;
a server of pages."""


@pytest.mark.parametrize("holder", HOLDERS)
def test_every_public_name_has_a_case(holder: str) -> None:
    used = names_in_cases()
    missing = sorted(HOLDERS[holder] - used - OF_OTHERS)
    assert not missing, f"Write a case in a file of cases in tests/cuda for {missing}."


def names_in_cases() -> set[str]:
    functions = [
        each
        for module in (cases, class_cases, map_cases, model_cases)
        for each in vars(module).values()
        if inspect.isfunction(each) and each.__module__ == module.__name__
    ]
    functions += [getattr(each, "fget", None) or getattr(each, "func", None) or each for each in vars(Given).values()]
    return set().union(*(names_in(each.__code__) for each in functions if hasattr(each, "__code__")))


def test_a_name_without_a_case_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HOLDERS, "the package", {*HOLDERS["the package"], "a_new_function"})
    with pytest.raises(AssertionError, match="a_new_function"):
        test_every_public_name_has_a_case("the package")


# ---------------------------------------------------------------------- the tier bites


@pytest.fixture
def gpu() -> Iterator[FakeGPU]:
    with fake_cuda() as found:
        yield found


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: here + there,
        lambda here, there: torch.cat([here, there]),
        lambda here, there: here @ there.T,
        lambda here, there: there.masked_fill(here > 0, 0.0),
        lambda here, there: torch.where(there > 0, here, there),
        lambda here, there: here.gather(0, there.long().abs() % 3),
        lambda here, there: there[(here > 0)],
        lambda here, there: there[here[:, 0].long() * 0],
        lambda here, there: torch.masked_select(here, there > 0),
        lambda here, there: here.numpy(),
        lambda here, there: torch.randn(3, device="cuda", generator=torch.Generator()),
    ],
)
def test_tensors_of_two_devices_are_refused(gpu: FakeGPU, mixed) -> None:
    there = torch.randn(3, 3)
    here = there.to("cuda")
    assert isinstance(here, FakeCudaTensor)
    with pytest.raises((MixedDevicesError, TypeError), match=r"cuda:0|same device"):
        mixed(here, there)


def test_what_a_gpu_allows_is_allowed(gpu: FakeGPU) -> None:
    there = torch.arange(9.0).view(3, 3)
    here = there.to("cuda")
    rows = torch.tensor([2, 0])
    compare(here[rows], there[rows])
    compare(here[there > 3], there[there > 3])
    compare(here * torch.tensor(2.0), there * 2)
    compare(there.copy_(here), there)
    here[:, 1] = 0.0
    assert here.tolist() == [[0, 0, 2], [3, 0, 5], [6, 0, 8]]
    assert float(here.sum()) == 24
    assert here.squeeze_().shape == here.cpu().shape == (3, 3)


@pytest.mark.parametrize("name", ["retrieving", "moments"])
def test_a_planted_tensor_of_the_cpu_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a tensor that was made without a device."""
    scores = clip_lens_plugin.Contributions.head_coordinates.fget

    def planted(self: clip_lens_plugin.Contributions) -> Tensor:
        return scores(self) * torch.ones(self.n_layers, 1, 1, device="cpu")

    monkeypatch.setattr(clip_lens_plugin.Contributions, "head_coordinates", property(planted))
    with fake_cuda(), given_on("class token", CUDA, tmp_path) as given, pytest.raises(MixedDevicesError, match="mul"):
        CASES[name](given)


def test_a_listened_norm_does_not_wait_for_the_gpu(gpu: FakeGPU, tmp_path: Path) -> None:
    with given_on("class token", CUDA, tmp_path) as given, torch.no_grad():
        given.model(given.images)
        before = gpu.waits
        given.model.run_with_hooks(given.images, fwd_hooks=[(lambda name: "hook_scale" in name, lambda x, hook: x)])
        assert gpu.waits == before


def test_what_ranks_send_each_other_lies_in_main_memory(
    gpu: FakeGPU, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tensor of the fake GPU refuses to be pickled."""
    sent: list[Any] = []
    monkeypatch.setattr(Ranks, "gather", lambda self, mine, take: sent.append(pickle.dumps(mine())))
    with given_on("mean", CUDA, tmp_path) as given:
        whole = given.collected()
    assert any(b"sum_yy" in each for each in sent)
    assert whole.moments.n == N
