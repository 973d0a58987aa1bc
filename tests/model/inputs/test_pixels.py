"""Pixels that are none of the model's are refused or said, everywhere by the same words, once per call."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import Compose, Normalize, ToTensor

from clip_lens_plugin import HookedCLIP, collect, mean_ablation_curve, patch_text_map
from clip_lens_plugin.ablation import activation_means, class_self_attention_messages
from clip_lens_plugin.ablation.component_sets import Components
from clip_lens_plugin.describe.spans import HeadSpan
from clip_lens_plugin.maps.patch_text import extreme_descriptions, head_text_scores
from clip_lens_plugin.model.inputs.pixels import PixelError
from clip_lens_plugin.model.inputs.prepared_pixels import pixel_range
from clip_lens_plugin.report.analyses import analyse
from clip_lens_plugin.scenes import ScenesDataset
from clip_lens_plugin.texts.pool import TextPool
from tests.conftest import random_clip

pytestmark = pytest.mark.slow

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SPAN = HeadSpan(0, 0, ["a dog", "a cat"], [0, 1], [0.5, 1.0], 1.0, torch.zeros(2, 24))


def total_effect(model: HookedCLIP, images: Any) -> object:
    """A curve on the images; contributions come from others."""
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = model.decompose(torch.rand(4, 3, 32, 32, generator=generator))
    classes = torch.nn.functional.normalize(torch.randn(3, 24, generator=generator), dim=-1)
    sets = [Components.of_mlps(model, [0]), Components.of_heads(model, [(1, 1)])]
    options: dict[str, Any] = {"components": sets, "effect": "total", "images": images, "batch_size": 2}
    return mean_ablation_curve(held, classes, torch.tensor([0, 1, 2, 0]), **options)


def report(model: HookedCLIP, images: Any) -> object:
    return analyse(model, images, names=["a", "b", "c", "d"], pool=TextPool.from_strings(["a dog", "a cat", "water"]))


ON_BATCHES: dict[str, Callable[[HookedCLIP, Any], object]] = {
    "model": lambda model, images: model(images),
    "run_with_cache": lambda model, images: model.run_with_cache(images),
    "decompose": lambda model, images: model.decompose(images, batch_size=1),
    "patch_text_map": lambda model, images: patch_text_map(model, images, ["a dog"], batch_size=1),
    "activation_means": lambda model, images: activation_means(model, images, "hook_embed", batch_size=1),
    "messages": lambda model, images: class_self_attention_messages(model, images, [0], batch_size=1),
    "curve": total_effect,
    "report": report,
}
ON_ONE: dict[str, Callable[[HookedCLIP, Any], object]] = {
    "head_text_scores": lambda model, image: head_text_scores(model, image, ["a dog"]),
    "extreme_descriptions": lambda model, image: extreme_descriptions(model, image, SPAN),
}


def normalised(model: HookedCLIP, n: int = 4) -> Tensor:
    """Noise from black to white, as the model's preprocessing would have it."""
    pixels = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def said(call: Callable[[], object]) -> list[str]:
    """The warnings of a call that are about pixels."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in caught if issubclass(each.category, UserWarning) and "ixels" in str(each)]


@pytest.fixture
def clip(tokenizer, monkeypatch: pytest.MonkeyPatch) -> HookedCLIP:
    """A plain tower in float32 with CLIP's own mean and deviation; shapes are not checked before it is called."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of the tests
    return HookedCLIP.from_open_clip(random_clip(), Compose([ToTensor(), Normalize(MEAN, STD)]), tokenizer)


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize("name", ON_BATCHES)
def test_what_is_no_tensor_of_pixels_is_refused_everywhere(clip: HookedCLIP, name: str) -> None:
    plain = torch.zeros(4, 3, 32, 32)
    for wrong in (
        *(plain.to(dtype) for dtype in (torch.uint8, torch.int64, torch.bool, torch.complex64)),
        torch.quantize_per_tensor(plain, 0.1, 0, torch.quint8),
        plain.to_sparse(),
    ):
        with pytest.raises(PixelError, match=r"floating-point numbers .* model\.prepare") as refusal:
            ON_BATCHES[name](clip, wrong)
        assert str(wrong.dtype) in str(refusal.value)
    for shape, mend in (
        ((4, 32, 32, 3), r"images\.permute\(0, 3, 1, 2\)"),
        ((4, 1, 32, 32), "3 colours"),
        ((4, 3, 16, 16), r"model\.prepare"),
    ):
        with pytest.raises(PixelError, match=rf"\[batch, 3, 32, 32\].*{mend}"):
            ON_BATCHES[name](clip, torch.zeros(shape))


@pytest.mark.parametrize("name", [name for name in ON_BATCHES if name != "curve"])
@pytest.mark.parametrize(
    ("wrong", "mend"),
    [
        (np.zeros((4, 3, 32, 32), np.float32), r"torch\.from_numpy"),
        ([torch.zeros(3, 32, 32)] * 4, r"torch\.stack"),
        ({"pixel_values": 0}, "pixel_values"),
        (None, r"model\.prepare"),
        (torch.zeros(3, 32, 32), r"images\[None\]"),
        (torch.zeros(32, 32, 3), r"permute\(2, 0, 1\)\[None\]"),
    ],
    ids=["array", "list", "processed", "none", "one", "one_turned"],
)
def test_what_could_become_pixels_is_refused_with_the_call(clip: HookedCLIP, name: str, wrong: Any, mend: str) -> None:
    for kind in (ValueError, TypeError):
        with pytest.raises(kind, match=mend):
            ON_BATCHES[name](clip, wrong)


@pytest.mark.parametrize("name", ["model", "run_with_cache"])
@pytest.mark.parametrize("wrong", [[Image.new("RGB", (32, 32))] * 4, Image.new("RGB", (32, 32)), "a.jpg"])
def test_runs_of_the_model_take_no_pictures(clip: HookedCLIP, name: str, wrong: Any) -> None:
    with pytest.raises(PixelError, match=r"model\.prepare"):
        ON_BATCHES[name](clip, wrong)


@pytest.mark.parametrize("name", ON_ONE)
def test_one_image_has_no_batch(clip: HookedCLIP, name: str) -> None:
    for wrong, mend in (
        (normalised(clip), r"images\[i\]"),
        (normalised(clip)[0].byte(), "torch.uint8"),
        (normalised(clip)[0].numpy(), r"model\.prepare\(picture\)\[0\]"),
        (torch.zeros(32, 32, 3), "permute"),
    ):
        with pytest.raises(PixelError, match=mend):
            ON_ONE[name](clip, wrong)


@pytest.mark.parametrize("name", [*ON_BATCHES, *ON_ONE])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_pixels_are_named_by_their_image(clip: HookedCLIP, name: str, value: float) -> None:
    images = normalised(clip)
    images[2, 1, 5, 5] = value
    if name in ON_ONE:
        with pytest.raises(PixelError, match=r"NaN or infinite in image 0 of 1"):
            ON_ONE[name](clip, images[2])
    elif name in ("model", "run_with_cache", "decompose"):
        found = said(lambda: ON_BATCHES[name](clip, images))
        assert [each for each in found if "NaN or infinite in image 2 of 4" in each]
    else:
        with pytest.raises(PixelError, match=r"NaN or infinite in image 2 of 4"):
            ON_BATCHES[name](clip, images)


# ---------------------------------------------------------------------- said


@pytest.mark.parametrize("name", [*ON_BATCHES, *ON_ONE])
def test_doubt_is_said_once_a_call(clip: HookedCLIP, name: str) -> None:
    raw = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    call = (ON_BATCHES | ON_ONE)[name]
    for images, message in (
        (raw, r"All pixels lie in 0 to 1"),
        (raw * 255, r"run from 0.* to 255"),
        (raw * 9 - 4, "run"),
    ):
        found = said(lambda images=images: call(clip, images[0] if name in ON_ONE else images))
        assert len(found) == 1, found
        assert message.split(".*")[0] in found[0]
        assert "-1.79 to 2.15" in found[0]
        assert "model.prepare" in found[0]
    fine = normalised(clip)
    assert said(lambda: call(clip, fine[0] if name in ON_ONE else fine)) == []


def test_a_warning_is_laid_to_the_line_that_called(clip: HookedCLIP) -> None:
    with pytest.warns(UserWarning, match="normalised") as caught:
        clip.decompose(torch.rand(2, 3, 32, 32))
    assert [each.filename for each in caught] == [__file__]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_range_is_that_of_black_and_white(clip: HookedCLIP, dtype: torch.dtype) -> None:
    """Independent: (0 − mean) / std and (1 − mean) / std by hand."""
    known = pixel_range(clip)
    blacks, whites = ([(value - m) / s for m, s in zip(MEAN, STD, strict=True)] for value in (0, 1))
    assert known is not None
    assert known.black == pytest.approx(blacks, abs=1e-6)
    assert known.white == pytest.approx(whites, abs=1e-6)
    assert (known.least, known.greatest) == pytest.approx((min(blacks), max(whites)), abs=1e-6)
    edges = torch.zeros(1, 3, 32, 32, dtype=dtype)
    for at, warned in ((min(blacks) - 0.9, False), (min(blacks) - 1.1, True), (max(whites) + 1.1, True)):
        edges[0, 0, 0, 0] = at
        assert bool(said(lambda: clip(edges))) is warned


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("mean", "std"), [(MEAN, STD), ((0.5,) * 3, (0.5,) * 3)])
def test_one_image_that_was_not_normalised_among_others_is_named(clip: HookedCLIP, mean, std, dtype) -> None:
    """A pale and a grey picture that were prepared, whose pixels lie in 0 to 1 too, are not doubted."""
    clip.preprocess = Compose([ToTensor(), Normalize(mean, std)])
    draw = np.random.default_rng(0)
    whole, pale, grey = (
        Image.fromarray(draw.integers(low, high, (32, 32, 3), dtype=np.uint8))
        for low, high in ((0, 256), (130, 256), (130, 160))
    )
    fine = clip.prepare([whole, pale, grey]).to(dtype)
    if mean[0] == 0.5:
        assert fine[1].min() >= 0
        assert fine[1].max() <= 1
    assert fine[2].min() >= 0
    assert fine[2].max() <= 1
    assert said(lambda: clip(fine)) == []
    assert said(lambda: clip(fine[1:])) == []
    raw = torch.stack([ToTensor()(picture) for picture in (whole, pale)]).to(dtype)
    for at, wrong in ((1, raw[0]), (3, raw[1])):
        mixed = torch.cat([fine[:at], wrong[None], fine[at:]])
        (message,) = said(lambda mixed=mixed: clip(mixed))
        assert f"All pixels of image {at} of 4 lie in 0 to 1" in message
    (message,) = said(lambda: clip(torch.cat([fine, raw * 255])))
    assert "The pixels of images 3, 4 of 5 run from" in message


def test_what_says_nothing_is_not_doubted(clip: HookedCLIP) -> None:
    """A baseline of one value, an empty batch, and pixels in 0 to 1 of a model that has them so."""
    for images in (torch.zeros(2, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5), torch.zeros(0, 3, 32, 32)):
        assert said(lambda images=images: clip(images)) == []
    clip.preprocess = ToTensor()
    assert said(lambda: clip(torch.rand(2, 3, 32, 32))) == []
    assert len(said(lambda: clip(torch.rand(2, 3, 32, 32) * 255))) == 1


@pytest.mark.parametrize("preprocess", [None, lambda picture: None, lambda picture: 1 / 0])
def test_without_a_preprocessing_only_bytes_are_doubted(clip: HookedCLIP, preprocess: Any) -> None:
    clip.preprocess = preprocess
    assert pixel_range(clip) is None
    for scale, warned in ((1, 0), (6, 0), (255, 1)):
        assert len(said(lambda scale=scale: clip(torch.rand(2, 3, 32, 32) * scale))) == warned


def test_a_preprocessing_is_run_once_and_moves_no_seed(clip: HookedCLIP) -> None:
    asked = []

    def preprocess(picture: Image.Image) -> Tensor:
        asked.append((picture.getpixel((0, 0)), torch.rand(()), random.random()))
        return ToTensor()(picture)

    clip.preprocess = preprocess
    torch.manual_seed(5)
    random.seed(5)
    for _ in range(3):
        clip(torch.rand(1, 3, 32, 32, generator=torch.Generator()))
    after = float(torch.rand(())), random.random()
    torch.manual_seed(5)
    random.seed(5)
    assert after == (float(torch.rand(())), random.random())
    assert [colour for colour, *_ in asked] == [(0, 0, 0), (255, 255, 255)]


# ---------------------------------------------------------------------- what cannot be looked at


def test_pixels_that_are_learned_are_never_an_error(clip: HookedCLIP) -> None:
    far = (normalised(clip) * 50).requires_grad_()
    assert len(said(lambda: clip(far).sum().backward())) == 1
    assert far.grad is not None
    assert bool((far.grad != 0).any())


def test_pixels_without_values_are_not_looked_at(clip: HookedCLIP) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert said(lambda: clip(torch.empty(2, 3, 32, 32))) == []
    bright = torch.rand(2, 3, 32, 32)
    assert said(lambda: torch.func.vmap(lambda image: clip(image[None]))(bright)) == []
    with pytest.raises(PixelError, match=r"torch\.uint8"):
        clip(torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device="meta"))


def test_the_look_breaks_no_graph(clip: HookedCLIP) -> None:
    images = torch.rand(2, 3, 32, 32) * 255
    reasons = torch._dynamo.explain(clip)(images).break_reasons
    assert not [each for each in reasons if any("pixels" in frame.filename for frame in each.user_stack)], reasons


# --------------------------------------------------------------------------- stores


class NotNormalised(ScenesDataset):
    """Tensors of bytes, or in 0 to 1."""

    def __init__(self, n: int, as_bytes: bool = False) -> None:
        super().__init__(n, 0)
        self.as_bytes = as_bytes

    def __getitem__(self, position: int) -> Any:
        pixels = ToTensor()(super().__getitem__(position))
        return (pixels * 255).byte() if self.as_bytes else pixels


class Source:
    """The same as an image source of one's own."""

    description, classes = "a source", None

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, position: int) -> str:
        return f"sample {position}"

    def read(self, position: int) -> Any:
        from clip_lens_plugin.datasets import Sample

        return Sample(self.dataset[position], -1)

    def fingerprint(self) -> str:
        return "0" * 64


@pytest.mark.parametrize("wrap", [lambda data: data, Source], ids=["torch", "own"])
def test_a_collection_refuses_bytes_and_doubts_once(tmp_path, monkeypatch: pytest.MonkeyPatch, wrap: Any) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of the tests
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    with pytest.raises(PixelError, match=r"torch\.uint8 .*floating-point numbers .*model\.prepare"):
        collect(model, wrap(NotNormalised(5, as_bytes=True)), tmp_path / "bytes", batch_size=2, progress=False)
    options: dict[str, Any] = {"batch_size": 2, "progress": False}
    found = said(lambda: collect(model, wrap(NotNormalised(5)), tmp_path / "raw", **options))
    assert len(found) == 1
    assert "0 to 1" in found[0]
    assert said(lambda: collect(model, wrap(ScenesDataset(5, 0)), tmp_path / "fine", **options)) == []
