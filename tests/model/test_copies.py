"""Copies of a model stand on their own: deepcopy, pickle, torch.save and spawned processes."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.adapters.transformers_tower import HuggingFaceCLIP
from tests.adapters.conversion import clip_model, siglip_model
from tests.conftest import random_images
from tests.support.families import FAMILIES

pytestmark = pytest.mark.slow

MODELS = {
    **FAMILIES,
    "Hugging Face CLIP": lambda: HuggingFaceCLIP(clip_model(FAMILIES["plain"]())),
    "Hugging Face SigLIP": lambda: HuggingFaceCLIP(siglip_model(FAMILIES["SigLIP"]())),
}


def embedding(model: HookedCLIP, images: Tensor) -> Tensor:
    """The source's own."""
    clip: Any = model.clip
    with torch.no_grad():
        given = (
            clip.encode_image(images, normalize=False) if "CoCa" in type(clip).__name__ else clip.encode_image(images)
        )
    return given


@pytest.mark.parametrize("family", MODELS)
def test_each_parameter_of_a_copy_is_the_copys(family: str):
    """Each parameter of the image tower is changed in turn: the copy follows its own source, the original stays."""
    original = HookedCLIP.from_open_clip(MODELS[family]().double())
    images = random_images(original, 1)
    before = original(images).detach().clone()
    twin = copy.deepcopy(original)
    assert twin.clip is not original.clip
    for name, parameter in twin.clip.visual.named_parameters():
        with torch.no_grad():
            parameter += 0.1
        found, expected = twin(images), embedding(twin, images)
        assert (found - expected).norm() <= 1e-11 * expected.norm(), name
    assert twin.decompose(images).completeness_error() < 1e-11
    assert torch.equal(original(images), before)
    assert not torch.equal(twin(images), before)


@pytest.mark.parametrize("family", MODELS)
def test_gradients_of_a_copy_are_the_copys(family: str):
    original = HookedCLIP.from_open_clip(MODELS[family]())
    twin = copy.deepcopy(original)
    twin(random_images(twin, 1)).sum().backward()
    assert all(parameter.grad is None for parameter in original.parameters())
    unused = [name for name, p in twin.clip.visual.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused or family in ("coca",), unused


@pytest.mark.parametrize("family", MODELS)
def test_pickle_and_save(family: str):
    model = HookedCLIP.from_open_clip(MODELS[family]())
    images = random_images(model, 2)
    contributions = model.decompose(images)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=False)  # Our own file, just written.
    for twin in (pickle.loads(pickle.dumps(model)), saved):
        assert torch.equal(twin(images), model(images))
        assert twin.verify().holds
    again = pickle.loads(pickle.dumps(contributions))
    assert torch.equal(again.heads, contributions.heads)
    assert again.completeness_error() == contributions.completeness_error()


def halved(module: Any, given: Any, found: Tensor) -> Tensor:
    return found / 2


def test_hooks_are_copied_and_only_those_with_a_name_are_pickled():
    model = HookedCLIP.from_open_clip(FAMILIES["plain"]())
    images = random_images(model, 1)
    contributions, plain = model.decompose(images), model(images)
    model.blocks[1].hook_mlp_out.register_forward_hook(halved)
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(images), model(images))
        assert not torch.equal(twin(images), plain)
    model.add_hook("blocks.2.hook_attn_out", lambda x, hook: x / 2)
    said = r"are on blocks\.2\.hook_attn_out\. .*model\.reset_hooks\(\)"
    assert torch.equal(copy.deepcopy(model)(images), model(images))
    for held in (model, contributions):
        for write in (pickle.dumps, lambda each: torch.save(each, io.BytesIO())):
            with pytest.raises(pickle.PicklingError, match=said):
                write(held)
    model.reset_hooks()
    assert torch.equal(pickle.loads(pickle.dumps(model))(images), model(images))


def test_parameters_are_counted_once():
    model = HookedCLIP.from_open_clip(MODELS["Hugging Face CLIP"]())
    source: Any = model.clip
    expected = sum(weight.numel() for weight in source._original[0].parameters())
    assert sum(weight.numel() for weight in source.parameters()) == expected


def _in_process(model: HookedCLIP, images: Tensor, answer: Any) -> None:
    answer.put(model(images).detach().numpy())


def test_spawned_process():
    model = HookedCLIP.from_open_clip(MODELS["coca"]())
    images = random_images(model, 1)
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_in_process, args=(model, images, answer))
    process.start()
    found = torch.from_numpy(answer.get(timeout=120))
    process.join()
    assert torch.allclose(found, model(images), rtol=1e-5, atol=1e-6)


def test_embedded_model_with_tokenizer_and_preprocessing():
    model = HookedCLIP.from_pretrained("scenes")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.encode_text(["red shape"]), model.encode_text(["red shape"]))
        assert repr(twin.preprocess) == repr(model.preprocess)
