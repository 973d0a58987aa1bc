"""Text labels as the vocabulary."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.labels import Labels
from tests.conftest import random_images

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


@pytest.mark.parametrize("position", [3, -1])
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


def test_residual_directions(model: HookedCLIP) -> None:
    embeddings = torch.randn(3, 24, dtype=torch.float64)
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


def test_labels_are_needed_and_must_fit(model: HookedCLIP) -> None:
    for use in (lambda: model.W_U, lambda: model.b_U, lambda: model.to_tokens("a dog")):
        with pytest.raises(ValueError, match="set_labels"):
            use()
    with pytest.raises(ValueError, match=r"24 wide.*got 7"):
        model.set_labels(NAMES, torch.zeros(3, 7))
