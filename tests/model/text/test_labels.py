"""Text labels as the vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.model.text.labels import Labels
from tests.conftest import random_images
from tests.support.families import FAMILIES

NAMES = ["a dog", "a cat", "the sea"]


@pytest.fixture
def labels() -> Labels:
    return Labels(tuple(NAMES), torch.eye(3))


@pytest.mark.parametrize(
    ("names", "rows", "words"),
    [
        ([], 0, "at least one name"),
        (["a", "b", "a"], 3, r"once.*\['a'\]"),
        (["a", "b"], 3, "2 labels need as many embeddings, got 3"),
    ],
)
def test_unusable_labels_are_refused(names: list[str], rows: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Labels(tuple(names), torch.zeros(rows, 4))


def test_positions(labels: Labels) -> None:
    assert [labels.index(name) for name in NAMES] == [0, 1, 2]
    assert labels.indices("the sea") == 2
    assert labels.indices(1) == 1
    assert labels.indices(torch.tensor(1)) == 1
    assert torch.equal(labels.indices(["the sea", "a dog"]), torch.tensor([2, 0]))
    assert torch.equal(labels.indices(torch.tensor([[2], [1]])), torch.tensor([[2], [1]]))


def test_an_unknown_label_suggests_the_nearest(labels: Labels) -> None:
    with pytest.raises(ValueError, match=r"'a dgo' is not among the labels.*'a dog'.*set_labels"):
        labels.index("a dgo")
    with pytest.raises(ValueError, match="There are 3 labels"):
        labels.indices(["zzzzzz"])


@pytest.mark.parametrize("position", [3, -4])
def test_a_position_outside_is_refused(labels: Labels, position: int) -> None:
    with pytest.raises(IndexError, match="0 to 2"):
        labels.indices(position)
    with pytest.raises(IndexError, match="0 to 2"):
        labels.indices(torch.tensor([0, position]))


def test_labels_are_the_models_vocabulary(model: HookedCLIP, tokenizer) -> None:
    """``unembed`` after ``ln_final`` gives the embedding's dot products with open_clip's text embeddings."""
    model.set_labels(NAMES)
    images = random_images(model)
    with torch.no_grad():
        texts = model.clip.encode_text(tokenizer(NAMES), normalize=True)
        expected = model.clip.encode_image(images) @ texts.T
        stream = model.run_with_cache(images)[1]["blocks.2.hook_resid_post"]
        torch.testing.assert_close(
            model.unembed(model.clip.visual.ln_post(stream))[:, 0], expected, rtol=1e-12, atol=1e-12
        )
        torch.testing.assert_close(model.W_U, model.clip.visual.proj @ texts.T, rtol=1e-12, atol=1e-12)
    assert torch.equal(model.b_U, torch.zeros(3, dtype=torch.float64))
    assert model.to_single_token("a cat") == 1
    assert torch.equal(model.to_tokens(["the sea", "a dog"]), torch.tensor([2, 0]))


def test_unembed_is_an_object_of_the_model(model: HookedCLIP) -> None:
    assert hasattr(model, "unembed")
    with pytest.raises(ValueError, match="No text labels are set"):
        model.unembed(torch.zeros(1, 48, dtype=torch.float64))
    assert not hasattr(model.unembed, "W_U")
    kept = model.unembed
    model.set_labels(NAMES)
    assert torch.equal(kept.W_U, model.W_U)
    assert torch.equal(kept.b_U, model.b_U)
    model.set_labels(NAMES[:2])
    assert kept.W_U.shape == (48, 2)


@pytest.mark.parametrize("kind", ["plain", "norm_then_mean", "clipa", "projection with a bias", "SigLIP"])
def test_unembedding_the_normalised_stream_gives_the_logits(kind: str) -> None:
    """M(I) · e_t, at the class token, or in the mean over what is pooled."""
    clip: Any = FAMILIES["registers" if kind == "projection with a bias" else kind]()
    if kind == "projection with a bias":
        clip.visual.head[0].bias = torch.nn.Parameter(torch.randn(24, generator=torch.Generator().manual_seed(5)))
    model = HookedCLIP.from_open_clip(clip.double().requires_grad_(False))
    rows = torch.randn(3, model.cfg.d_embed, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    images, embeddings = random_images(model), torch.nn.functional.normalize(rows, dim=-1)
    model.set_labels(NAMES, embeddings)
    expected = clip.encode_image(images) @ embeddings.T
    torch.testing.assert_close(model(images, return_type="logits"), expected, rtol=1e-10, atol=1e-10)
    if kind == "SigLIP":
        with pytest.raises(AttributeError, match="pools by attention"):
            model.unembed(torch.zeros(1, 48, dtype=torch.float64))
        return
    stream = model(images, stop_at_layer=model.cfg.n_layers)
    if kind == "clipa":
        stream = stream[:, 1:].mean(1, keepdim=True)
    read = model.unembed(model.ln_final(stream))
    read = read[:, 1:].mean(1) if kind == "norm_then_mean" else read[:, 0]
    torch.testing.assert_close(read, expected, rtol=1e-10, atol=1e-10)


def test_labels_at_positions(model: HookedCLIP) -> None:
    with pytest.raises(ValueError, match="No text labels are set"):
        model.to_string(0)
    model.set_labels(NAMES)
    assert [model.to_string(each) for each in (1, -1, torch.tensor(2), torch.tensor([0]), [1])] == [
        *("a cat", "the sea", "the sea", "a dog", "a cat")
    ]
    assert model.to_string(torch.tensor([[2, 0], [1, 1]])) == [["the sea", "a dog"], ["a cat", "a cat"]]
    assert model.to_str_tokens("a cat") == model.to_str_tokens(1) == model.to_str_tokens(np.array([1])) == ["a cat"]
    assert model.to_str_tokens(torch.tensor([2, 0])) == model.to_str_tokens([2, 0]) == ["the sea", "a dog"]
    assert model.to_str_tokens(["a cat", "the sea"]) == [["a cat"], ["the sea"]]
    assert [model.to_single_str_token(model.to_single_token(name)) for name in NAMES] == NAMES
    with pytest.raises(ValueError, match="whole numbers"):
        model.to_string(torch.tensor([1.5, 2.0]))
    for wrong, error in [(3, IndexError), (True, ValueError)]:
        with pytest.raises(error):
            model.to_string(wrong)
        with pytest.raises(error):
            model.to_single_str_token(wrong)
    with pytest.raises(ValueError, match="'a cow' is not among the labels"):
        model.to_str_tokens(["a cow"])


def test_residual_directions(model: HookedCLIP) -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(3, 24, dtype=torch.float64), dim=-1)
    model.set_labels(NAMES, embeddings)
    visual = model.clip.visual
    expected = torch.einsum("de,te,d->td", visual.proj, embeddings, visual.ln_post.weight).detach()
    for tokens, rows in [
        ("a cat", expected[1]),
        (2, expected[2]),
        (["the sea", "a dog"], torch.stack([expected[2], expected[0]])),
        (torch.tensor([[1]]), expected[1].expand(1, 1, -1)),
    ]:
        directions = model.tokens_to_residual_directions(tokens).detach()
        torch.testing.assert_close(directions, rows, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.0, 0.0])
def test_embeddings_that_are_no_unit_vectors_are_refused(model: HookedCLIP, value: float) -> None:
    embeddings = torch.eye(3, 24, dtype=torch.float64)
    embeddings[1, 1] = value
    with pytest.raises(ValueError, match="labels' embeddings must be unit vectors"):
        model.set_labels(NAMES, embeddings)
    assert model.labels is None
    with pytest.raises(ValueError, match="the one string 'a dog'"):
        model.set_labels("a dog")


def test_very_many_labels_are_checked_and_found() -> None:
    names = tuple(f"label {i}" for i in range(200_000))
    labels = Labels(names, torch.ones(200_000, 1))
    assert labels.indices(list(names[::-1])).tolist() == list(range(200_000))[::-1]
    with pytest.raises(ValueError, match=r"once.*\['label 7'\]"):
        Labels((*names[:-1], "label 7"), torch.ones(200_000, 1))
    with pytest.raises(ValueError, match=r"'lable 12' is not among the labels\..*'label 12'"):
        labels.index("lable 12")


def test_absent_labels_are_no_attribute_and_say_what_to_do(model: HookedCLIP) -> None:
    for name in ("W_U", "b_U"):
        assert not hasattr(model, name)
        for kind in (ValueError, AttributeError):
            with pytest.raises(kind, match=r"No text labels are set\. Call model\.set_labels"):
                getattr(model, name)
    model.set_labels(NAMES)
    assert hasattr(model, "W_U")
    assert hasattr(model, "b_U")
    with pytest.raises(AttributeError, match="no attribute 'W_X'"):
        _ = model.W_X


def test_labels_are_needed_and_must_fit(model: HookedCLIP) -> None:
    for use in (lambda: model.W_U, lambda: model.b_U, lambda: model.to_tokens("a dog")):
        with pytest.raises(ValueError, match="set_labels"):
            use()
    with pytest.raises(ValueError, match=r"24 wide.*got 7"):
        model.set_labels(NAMES, torch.zeros(3, 7))
