"""What users give in another form than was meant is taken where it is plain, and else refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import Image

from clip_lens_plugin import HookedCLIP, eta_squared
from clip_lens_plugin.ablation import mean_ablation_curve
from clip_lens_plugin.arguments import checked_device, checked_texts
from clip_lens_plugin.model.inputs.pixels import PixelError, check_batch
from clip_lens_plugin.retrieval import extreme_images
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier
from tests.conftest import random_images

TEXTS = ["a dog", "a cat"]


@pytest.mark.parametrize("given", [TEXTS, tuple(TEXTS), np.array(TEXTS), dict.fromkeys(TEXTS)], ids=str)
def test_texts_in_any_list(given) -> None:
    found = checked_texts("labels", given)
    assert found == TEXTS
    assert all(type(each) is str for each in found)


@pytest.mark.parametrize("given", ["a dog", b"a dog", [], ["a", 5], 5, None, [None], [b"a"], ["a\udcff"], ["\ud800"]])
def test_what_is_no_list_of_texts(given) -> None:
    with pytest.raises(ValueError, match="labels") as caught:
        checked_texts("labels", given)
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)


def test_what_is_no_text_is_refused_by_name(model, monkeypatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # As outside of the tests.
    for given, message in (([None], "None of type NoneType"), (["a", 5], "5 of type int")):
        with pytest.raises(ValueError, match=f"encode_text takes texts, got {message}"):
            model.encode_text(given)


def test_no_tokenizer_is_given_half_a_character(model) -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        model.encode_text(["a", "b\udcff"])


def test_labels_in_any_list(model) -> None:
    expected = ZeroShotClassifier.from_labels(model, TEXTS, ["{}", "a photo of {}"])
    found = ZeroShotClassifier.from_labels(model, np.array(TEXTS), (each for each in ("{}", "a photo of {}")))
    assert found.names == expected.names
    assert torch.equal(found.embeddings, expected.embeddings)
    model.set_labels(each for each in TEXTS)
    assert model.labels.names == tuple(TEXTS)
    assert model.to_single_token("a cat") == 1
    for given in ([], "a dog"):
        with pytest.raises(ValueError, match="takes a list of one or more"):
            ZeroShotClassifier.from_labels(model, given)
        with pytest.raises(ValueError, match="takes a list of one or more"):
            model.set_labels(given)


def test_classes_of_rows_in_any_list() -> None:
    values, labels = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), [1, 0, -1, 1, 0]
    expected = eta_squared(values, torch.tensor(labels))
    for given in (labels, tuple(labels), np.array(labels), torch.tensor(labels, dtype=torch.int8)):
        assert torch.equal(eta_squared(values, given), expected)
    for given, message in (
        ([0.5] * 5, "whole numbers"),
        ("abcde", "whole numbers"),
        ([0, 1], "as many"),
        ([-2, 0, 1, 1, 0], "must be whole numbers from 0, or -1 where the class is not known; got -2 to 1"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            eta_squared(values, given)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["gpu", "", "cuda:99", "cpu:x", 3.5])
def test_a_device_that_is_none(given) -> None:
    with pytest.raises(ValueError, match="cannot be used: expected one that torch has here") as caught:
        checked_device(given)
    assert "\n" not in str(caught.value)
    with pytest.raises((ValueError, TypeCheckError), match=r"The device .* cannot be used|parameter device"):
        HookedCLIP.from_pretrained("scenes", device=given)


def test_a_seed_that_is_none(model) -> None:
    contributions = model.decompose(random_images(model))
    texts = torch.nn.functional.normalize(torch.randn(2, 24, dtype=torch.float64), dim=-1)
    for seed in (-1, -(2**70)):
        with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
            mean_ablation_curve(contributions, texts, torch.zeros(3, dtype=torch.long), ablation="resample", seed=seed)


def test_pictures_in_open_files(tmp_path) -> None:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    path = tmp_path / "picture.png"
    Image.effect_noise((60, 60), 90).convert("RGB").save(path)
    expected = model.prepare(path)
    for buffering in (-1, 0):
        with path.open("rb", buffering=buffering) as file:
            assert torch.equal(model.prepare(file), expected)
        with path.open("rb", buffering=buffering) as file:
            assert torch.equal(model.prepare([file, path])[0], expected[0])
    with path.open(encoding="latin-1") as file, pytest.raises(TypeError, match="Open the file in binary"):
        model.prepare(file)


NO_PIXELS: dict[str, Callable[[], Any]] = {
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(3, 32, 32)], layout=torch.strided),
    "jagged": lambda: torch.nested.nested_tensor([torch.zeros(3, 32, 32)], layout=torch.jagged),
    "meta": lambda: torch.zeros(1, 3, 32, 32, device="meta"),
    "sparse": lambda: torch.zeros(1, 3, 32, 32).to_sparse(),
}


@pytest.mark.parametrize("kind", NO_PIXELS)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_tensors_that_hold_no_pixels(kind, model) -> None:
    with pytest.raises(PixelError, match=kind if kind != "jagged" else "nested") as caught:
        check_batch(model, NO_PIXELS[kind]())
    assert "\n" not in str(caught.value)


def test_one_image_is_extreme_in_nothing(model) -> None:
    contributions = model.decompose(random_images(model, 1))
    texts = torch.nn.functional.normalize(torch.randn(2, 24, dtype=torch.float64), dim=-1)
    with pytest.warns(UserWarning, match="one image, which is its own mean"):
        found = extreme_images(contributions, TEXTS, 3, text_embeddings=texts)
    assert found["score"].abs().max() < 1e-6
