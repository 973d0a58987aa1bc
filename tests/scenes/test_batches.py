"""Batches, and the loss without its false negatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lens_plugin.scenes.attributes import ATTRIBUTES, sample_scenes
from clip_lens_plugin.scenes.batches import FOCUS, FOCUS_FROM, DrawnScenes, contrastive_loss, make_batch


@pytest.fixture(scope="module")
def drawn():
    return DrawnScenes.of(sample_scenes(400, seed=2))


def test_also_true_marks_every_other_caption_that_holds(drawn):
    batch = make_batch(drawn, 64, np.random.default_rng(0), step=0)
    words = [set(text.replace("top left", "topleft").split()) for text in batch.captions]
    assert not batch.also_true.diagonal().any()
    assert batch.also_true.any()
    colours = set(ATTRIBUTES["colour"])
    for image, caption in batch.also_true.nonzero()[:200].tolist():
        named = words[caption] & colours
        own = words[image] & colours
        assert not (named and own and named != own)


def test_batches_depend_on_their_generator_alone_and_later_ones_focus(drawn):
    first = make_batch(drawn, 64, np.random.default_rng([0, 5]), step=5)
    again = make_batch(drawn, 64, np.random.default_rng([0, 5]), step=5)
    assert first.captions == again.captions
    assert torch.equal(first.images, again.images)
    found = set()
    for seed in range(30):
        batch = make_batch(drawn, 64, np.random.default_rng(seed), FOCUS_FROM)
        for name in FOCUS:
            if all(any(value in text for value in ATTRIBUTES[name]) for text in batch.captions):
                found.add(name)
    assert found == set(FOCUS)


def test_loss_is_the_mean_cross_entropy_over_pairs_that_are_wrong():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 5, 8, generator=generator, dtype=torch.float64)
    also_true = torch.zeros(5, 5, dtype=torch.bool)
    also_true[0, 3] = also_true[4, 1] = True
    expected = 0.0
    logits = (7.0 * images @ texts.T).tolist()
    for i in range(5):
        row = [logits[i][j] for j in range(5) if not also_true[i, j]]
        column = [logits[j][i] for j in range(5) if not also_true[j, i]]
        for each in (row, column):
            expected += (np.log(np.exp(each).sum()) - logits[i][i]) / 10
    loss = contrastive_loss(images, texts, torch.tensor(7.0, dtype=torch.float64), also_true)
    assert loss.item() == pytest.approx(expected)
