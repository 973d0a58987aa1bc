"""Labels that the model's text tower embedded are not used after it was changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from clip_lens_plugin import HookedCLIP, ZeroShotClassifier

NAMES = ["a red circle", "two blue squares"]


def in_place(clip: Any) -> None:
    with torch.no_grad():
        clip.transformer.resblocks[0].mlp.c_fc.weight.mul_(1.5)


def past_the_version(clip: Any) -> None:
    clip.transformer.resblocks[0].mlp.c_fc.weight.data.mul_(1.5)


def loaded(clip: Any) -> None:
    other = {name: 1.2 * value if "visual" not in name else value for name, value in clip.state_dict().items()}
    clip.load_state_dict(other)


def replaced(clip: Any) -> None:
    clip.text_projection = torch.nn.Parameter(clip.text_projection.detach().flip(0))


def activation(clip: Any) -> None:
    clip.transformer.resblocks[0].mlp.gelu = torch.nn.ReLU()


def hooked(clip: Any) -> None:
    clip.transformer.resblocks[0].register_forward_hook(lambda module, given, found: 2 * found)


@pytest.fixture(scope="module")
def plain() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes")


@pytest.fixture
def model(plain: HookedCLIP) -> HookedCLIP:
    return copy.deepcopy(plain)


@pytest.mark.parametrize("change", [in_place, past_the_version, loaded, replaced, activation, hooked])
def test_labels_of_another_text_tower_are_refused(model: HookedCLIP, change: Callable[[Any], None]):
    model.set_labels(NAMES)
    before = model.W_U
    change(model.clip)
    for use in (lambda: model.W_U, lambda: model.tokens_to_residual_directions(NAMES), lambda: model.unembed(before.T)):
        with pytest.raises(ValueError, match=r"was changed after the labels were embedded.*set_labels"):
            use()
    model.set_labels(NAMES)
    expected = model.W_P @ model.encode_text(NAMES).T
    torch.testing.assert_close(model.W_U, expected)
    assert (expected - before).norm() > 1e-3 * before.norm()


def test_a_classifiers_labels_are_as_old_as_the_classifier(model: HookedCLIP):
    classes = ZeroShotClassifier.from_labels(model, NAMES, ["{}", "a photo of {}"])
    classes.attach(model)
    torch.testing.assert_close(model.W_U, model.W_P @ classes.embeddings.T)
    past_the_version(model.clip)
    with pytest.raises(ValueError, match="was changed after the labels were embedded"):
        _ = model.W_U
    with pytest.raises(ValueError, match="was made with another model"):
        classes.attach(model)


def test_embeddings_of_the_user_and_harmless_changes_are_let_be(model: HookedCLIP):
    own = torch.nn.functional.normalize(torch.randn(2, model.cfg.d_embed), dim=-1)
    model.set_labels(NAMES, own)
    in_place(model.clip)
    torch.testing.assert_close(model.W_U, model.W_P @ own.T)
    model.set_labels(NAMES)
    before = model.W_U
    with torch.no_grad():
        model.clip.visual.proj.add_(0.01)  # Of the image side, which is read at each use.
    assert (model.W_U - before).norm() > 0
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        model.to(dtype)
        assert model.W_U.dtype == dtype
    twin = copy.deepcopy(model)
    torch.testing.assert_close(twin.W_U, model.W_U)
