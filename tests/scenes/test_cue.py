"""The planted cue: backgrounds of two shapes alone, in the share asked for; the stream without it is as it was."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from clip_lens_plugin.scenes import sample_scenes
from clip_lens_plugin.scenes.accuracy import cue_accuracy
from clip_lens_plugin.scenes.attributes import ATTRIBUTES
from clip_lens_plugin.scenes.batches import DrawnScenes
from clip_lens_plugin.scenes.cue import PLANTED, cue_group, planted_scenes


def test_two_shapes_lie_on_backgrounds_of_their_own():
    plain, found = sample_scenes(900, 4), planted_scenes(900, 4, 0.9)
    assert [replace(each, background="") for each in found] == [replace(each, background="") for each in plain]
    for shape in ATTRIBUTES["shape"]:
        own = [(a, b) for a, b in zip(plain, found, strict=True) if a.shape == shape]
        if shape not in PLANTED:
            assert all(a == b for a, b in own)
            continue
        times = Counter(b.background for _, b in own)
        expected = 0.9 * len(own)
        assert abs(times[PLANTED[shape]] - expected) < 4 * np.sqrt(0.1 * expected)
        assert set(times) == set(ATTRIBUTES["background"])
    assert planted_scenes(20, 4, 0.9) == found[:20]
    assert {each.background for each in planted_scenes(60, 4, 1.0) if each.shape == "circle"} == {"white"}
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        planted_scenes(3, 0, 1.5)


def test_groups_are_of_planted_shapes_on_planted_backgrounds():
    groups = Counter(cue_group(each) for each in sample_scenes(400, 1))
    assert set(groups) == {"circle on white", "circle on black", "square on white", "square on black", None}
    assert groups[None] > 320


def test_accuracy_by_group():
    """Of pictures whose embedding is their background: right in two groups, wrong in two."""
    scenes = [each for each in sample_scenes(300, 3) if cue_group(each) is not None]
    drawn = DrawnScenes.of(scenes)

    def encode_image(images):
        light = images.flatten(1).median(1).values
        return torch.stack([light, -light], dim=1)

    def encode_text(texts):
        return torch.tensor([[1.0, -1.0] if "circle" in text else [-1.0, 1.0] for text in texts])

    found = cue_accuracy(encode_image, encode_text, drawn)
    assert found == {"circle on black": 0.0, "circle on white": 1.0, "square on black": 1.0, "square on white": 0.0}
