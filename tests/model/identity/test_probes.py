"""Probes are the same everywhere, tell apart what differs, and are compared up to rounding."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from clip_lens_plugin.model.identity.probes import (
    PROBE_TEXTS,
    PROBE_TOLERANCE,
    is_same_probe,
    preprocessing_digest,
    probe_image,
    probe_picture,
    token_digest,
)


def transform(**changes):
    return image_transform_v2(PreprocessCfg(size=32, **changes), is_train=False)


def test_pictures_are_made_of_whole_numbers_and_stay_as_they_are():
    """A store keeps what was made of them: if this fails, no store of an earlier version opens."""
    picture = probe_picture(45, 70)
    assert (picture.size, picture.mode) == ((45, 70), "RGB")
    pixels = np.array(picture)
    assert 30 < pixels.std() < 80
    assert np.abs(np.diff(pixels.astype(int), axis=0)).mean() > 5
    digest = hashlib.sha256(probe_picture(613, 401).tobytes() + picture.tobytes()).hexdigest()
    assert digest[:16] == "fae73492cf78eac9"


def test_an_image_lies_between_black_and_white():
    image = probe_image(32, 56)
    assert image.shape == (1, 3, 32, 56)
    assert -1 <= image.min() < -0.5 < 0.5 < image.max() <= 1


def test_every_step_of_a_preprocessing_counts():
    changes = [
        {},
        {"mean": (0.5, 0.5, 0.5)},
        {"std": (0.5, 0.5, 0.5)},
        {"interpolation": "bilinear"},
        {"resize_mode": "squash"},
        {"resize_mode": "longest"},
        {"resize_mode": "longest", "fill_color": 128},
    ]
    digests = [preprocessing_digest(transform(**each)) for each in changes]
    assert len({*digests, preprocessing_digest(None)}) == len(changes) + 1
    assert digests[0] == preprocessing_digest(transform())


def test_a_preprocessing_that_draws_at_random_is_recognised_and_disturbs_nobody():
    train = open_clip.image_transform(32, is_train=True)
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert preprocessing_digest(train) == preprocessing_digest(train)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_a_preprocessing_may_fail_or_return_anything():
    def fails(picture):
        raise KeyError("no such picture")

    digests = [
        preprocessing_digest(each) for each in (fails, lambda p: p, np.array, lambda p: torch.ones(3), lambda p: 5)
    ]
    assert len(set(digests)) == 4
    assert digests[1] == digests[2]  # A picture and its array hold the same.


def test_tokenizers_are_known_by_what_they_do(tokenizer):
    cased = open_clip.SimpleTokenizer(clean="whitespace")
    short = open_clip.SimpleTokenizer(context_length=20)
    assert len({token_digest(each) for each in (None, tokenizer, cased, short)}) == 4
    assert token_digest(tokenizer) == token_digest(open_clip.SimpleTokenizer())
    assert len(tokenizer.encode(PROBE_TEXTS[7])) > 200


@pytest.mark.parametrize("dtype", PROBE_TOLERANCE)
def test_probes_are_compared_up_to_the_rounding_of_their_dtype(dtype):
    one = torch.nn.functional.normalize(torch.randn(4, 24, generator=torch.Generator().manual_seed(0)), dim=-1)
    direction = torch.ones(24) / 24**0.5
    for share, same in ((0.5, True), (2.0, False)):
        other = one.clone()
        other[2] += share * PROBE_TOLERANCE[dtype] * direction
        assert is_same_probe(other, one, dtype) is same
        assert is_same_probe(one, one, dtype)
    assert not is_same_probe(one[:3], one, dtype)
    assert not is_same_probe(one * float("nan"), one, dtype)
