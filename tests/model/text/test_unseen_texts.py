"""Texts that are cut at the context length, or lost in cleaning, are found with every kind of tokenizer."""

from __future__ import annotations

import warnings

import open_clip
import pytest
import torch
from jaxtyping import TypeCheckError
from open_clip.tokenizer import HFTokenizer

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.model.loading.tokenizers import HuggingFaceTokenizer
from clip_lens_plugin.model.text.unseen_texts import unseen
from tests.adapters.conversion import letters_tokenizer
from tests.conftest import random_clip


def found(tokenizer, texts):
    seen_otherwise = unseen(tokenizer, texts, tokenizer(texts))
    return seen_otherwise.cut, seen_otherwise.lost


def opaque(inner):
    """The same as a function that tells nothing about itself."""
    return lambda texts: inner(texts)


@pytest.mark.parametrize("wrap", [lambda each: each, opaque])
@pytest.mark.parametrize("length", [20, 77])
def test_open_clips_own(wrap, length):
    """``length - 2`` words fit beside start and end, and one more is too many."""
    tokenizer = open_clip.SimpleTokenizer(context_length=length)
    texts = ["dog " * n for n in (1, length - 3, length - 2, length - 1, length, 5 * length)]
    assert found(wrap(tokenizer), texts) == ([3, 4, 5], [])


def test_words_of_several_tokens_are_counted_as_such():
    tokenizer = open_clip.SimpleTokenizer(context_length=8)
    words = "antidisestablishmentarianism"
    n = len(tokenizer.encode(words))
    assert n > 3
    texts = [words, f"{words} {words}", "dog"]
    cut = [i for i, text in enumerate(texts) if len(tokenizer.encode(text)) + 2 > 8]
    assert found(tokenizer, texts) == (cut, [])
    assert cut


def test_a_tokenizer_that_drops_words_at_random_is_said_too():
    tokenizer = open_clip.SimpleTokenizer(context_length=8, reduction_mask="random")
    assert found(tokenizer, ["dog " * 6, "dog " * 7]) == ([1], [])


def hugging_face(folder, length, **changes):
    return HuggingFaceTokenizer(letters_tokenizer(folder / "letters"), length)


def of_open_clip(folder, length, mode=None):
    inner = letters_tokenizer(folder / "letters")
    inner.save_pretrained(folder / "saved")
    return HFTokenizer(str(folder / "saved"), context_length=length, tokenizer_mode=mode)


@pytest.mark.parametrize("make", [hugging_face, of_open_clip])
@pytest.mark.parametrize("wrap", [lambda each: each, opaque])
def test_hugging_faces(make, wrap, tmp_path):
    """Of letters, each a token: ten fit between start and end."""
    texts = ["a", "a b c d e f g h i", "a b c d e f g h i j", "a b c d e f g h i j k", "z " * 50]
    assert found(wrap(make(tmp_path, 12)), texts) == ([3, 4], [])


def test_open_clips_clips_mode_keeps_three_tokens_for_itself(tmp_path):
    tokenizer = of_open_clip(tmp_path, 12, "clips")
    tokenizer.tokenizer.cls_token = "<|endoftext|>"
    assert found(tokenizer, ["a b c d e f g h i", "a b c d e f g h i j"]) == ([1], [])


def test_what_the_cleaning_loses_is_found():
    tokenizer = open_clip.SimpleTokenizer(clean="canonicalize")
    assert found(tokenizer, ["a dog", "?!", "", "...", "a dog!"]) == ([], [1, 3])


def test_a_tokenizer_that_pads_to_the_longest_cuts_nothing():
    def own(texts):
        rows = [[5, *(sum(map(ord, word)) for word in text.split()), 6] for text in texts]
        width = max(map(len, rows))
        return torch.tensor([row + [0] * (width - len(row)) for row in rows])

    assert found(own, ["a dog", "a very old dog", "word " * 300]) == ([], [])


def test_a_warning_says_how_many_and_the_first(tokenizer):
    model = HookedCLIP.from_open_clip(random_clip(), tokenizer=tokenizer)
    with pytest.warns(UserWarning, match=r"1 of 2 texts are longer than the text tower reads.*'dog dog") as caught:
        model.encode_text(["a dog", "dog " * 100])
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="1 of 2 texts leave nothing after the tokenizer's cleaning.*' '"):
        model.encode_text([" ", "a dog"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode_text(["dog " * 75, ""])
        model.text_probe()
        model.text_fingerprint()


def test_the_embedded_models_tokenizer_is_watched_too():
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    with pytest.warns(UserWarning, match="1 of 1 texts are longer"):
        model.encode_text("a red circle " * 10)
    with pytest.raises((ValueError, TypeCheckError), match="5"):
        model.encode_text(["a", 5])  # type: ignore[list-item]
