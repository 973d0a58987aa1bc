"""Maps hold each patch's own contribution, at its own place, and add up."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, patch_text_map
from clip_lens_plugin.patch_text import token_scores
from tests.conftest import TOWERS, random_clip, random_images


def test_token_scores_are_the_normalized_contributions(tower, tokenizer):
    tower.tokenizer = tokenizer
    images = random_images(tower)
    texts = tower.encode_text(["a dog", "a cat"])
    contributions = tower.decompose(images, tokens=True).normalized()
    torch.testing.assert_close(token_scores(tower, images, texts), contributions.towards(texts, per_token=True))


def test_map_sums_chosen_heads_and_adds_up_to_their_score(model):
    images = random_images(model, 5)
    chosen = [(1, 2), (-1, 0)]
    maps = patch_text_map(model, images, ["a dog", "a cat"], heads=chosen, batch_size=2)
    assert maps.values.shape == (5, 2, 4, 4)
    scores = model.decompose(images).normalized().towards(model.encode_text(["a dog", "a cat"]))
    torch.testing.assert_close(maps.scores, scores[:, 1, 2] + scores[:, 2, 0])
    tokens = model.decompose(images, tokens=True).normalized().tokens(1, 2)
    tokens = tokens + model.decompose(images, tokens=True).normalized().tokens(2, 0)
    expected = tokens[3, 1 + 2 * 4 + 1] @ model.encode_text("a cat")[0]  # row 2, column 1
    torch.testing.assert_close(maps.values[3, 1, 2, 1], expected)


def test_rows_and_columns_of_images_that_are_not_square(tokenizer):
    clip = random_clip(TOWERS["not_square"], torch.float64)
    model = HookedCLIP.from_open_clip(clip, tokenizer=tokenizer)
    assert patch_text_map(model, random_images(model, 2), ["a dog"]).values.shape == (2, 1, 4, 7)


def test_bad_arguments_are_refused(model):
    images = random_images(model)
    with pytest.raises(ValueError, match="list of one or more texts"):
        patch_text_map(model, images, "a dog")
    with pytest.raises(ValueError, match="no images"):
        patch_text_map(model, images[:0], ["a dog"])
    with pytest.raises(ValueError, match="at least one"):
        patch_text_map(model, images, ["a dog"], heads=[])
    with pytest.raises(IndexError, match="heads 0 to 3"):
        patch_text_map(model, images, ["a dog"], heads=[(0, 4)])
