"""Captions are true, name what they say they name, and fit the tokenizer."""

from __future__ import annotations

import numpy as np
import pytest

from clip_lens_plugin.scenes.attributes import ATTRIBUTES, sample_scenes
from clip_lens_plugin.scenes.captions import caption, prompts, random_caption, vocabulary
from clip_lens_plugin.scenes.tokens import CONTEXT_LENGTH, scenes_tokenizer, write_merges


def test_captions_read_as_english():
    assert caption({"colour": "red"}) == "red shape"
    assert caption({"background": "navy"}) == "a navy background"
    assert caption({"count": "three", "shape": "cross"}) == "three crosses"
    full = {name: values[0] for name, values in ATTRIBUTES.items()}
    assert caption(full) == "one small red plain circle in the top left on a white background"


def test_random_captions_name_true_attributes_only():
    rng = np.random.default_rng(0)
    for scene in sample_scenes(200, seed=5):
        text, named = random_caption(scene, rng)
        assert named
        assert named.items() <= scene.attributes().items()
        assert text.endswith(caption(named))
        assert "shape" in random_caption(scene, rng, always="shape")[1]


def test_unknown_attributes_are_refused():
    with pytest.raises(ValueError, match="at least one attribute"):
        caption({})
    with pytest.raises(ValueError, match=r"'teal'.*'red'"):
        caption({"colour": "teal"})
    with pytest.raises(ValueError, match=r"'colour'.*'weight'"):
        prompts("weight")


def test_tokenizer_gives_known_words_as_open_clips_own_does(tmp_path, tokenizer):
    write_merges(tmp_path)
    small = scenes_tokenizer(tmp_path)
    for word in vocabulary():
        own = [tokenizer.decoder[i] for i in tokenizer.encode(word)]
        assert [small.decoder[i] for i in small.encode(word)] == own
    longest = caption({**{name: values[-1] for name, values in ATTRIBUTES.items()}, "texture": "checkered"})
    assert len(small.encode(f"a drawing of {longest}")) + 2 <= CONTEXT_LENGTH
    assert small.decode(small.encode("zebra")).strip() == "zebra"
