"""Tokens in letters and words, of the tokenizers of open_clip and Hugging Face, and of one that is not known."""

from __future__ import annotations

import pytest
import tokenizers
import torch
import transformers
from open_clip.tokenizer import HFTokenizer

from clip_lens_plugin.model.text.spelling import spelt


def words(tokenizer, text: str, ids: torch.Tensor | None = None, has_class_token: bool = False) -> list[str]:
    ids = tokenizer([text]) if ids is None else ids
    return [word.text for word in spelt(tokenizer, ids, [text], has_class_token)[0].words]


def test_byte_pairs(tokenizer):
    found = words(tokenizer, "A photo of a café-crème: don't 🐕 hippopotamuses!")
    expected = ["a", "photo", "of", "a", "café", "-", "crème", ":", "don", "'t", "🐕", "hippopotamuses", "!"]
    assert found == ["[start]", *expected, "[end]", "[padding]"]
    assert words(tokenizer, "a " * 100)[-2:] == ["a", "[end]"]
    assert words(tokenizer, "!", has_class_token=True) == ["[start]", "!", "[end]", "[padding]", "[class]"]


def test_every_token_is_in_one_word(tokenizer):
    for each in spelt(tokenizer, tokenizer(["", "a", "hippopotamuses everywhere"]), None, True):
        covered = [position for word in each.words for position in word.tokens]
        assert covered == list(range(78))
        assert len(each.tokens) == 78


@pytest.fixture
def pieces(tmp_path):
    """A tokenizer of Hugging Face's whose words begin with a mark, as SentencePiece's do."""
    vocabulary = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("▁a", -1.0),
        ("▁hip", -2.0),
        ("po", -2.0),
        ("▁", -5.0),
    ]
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, 2))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    wrapped.save_pretrained(tmp_path)
    return HFTokenizer(str(tmp_path), context_length=8)


def test_pieces_with_a_mark_before_words(pieces):
    assert words(pieces, "a hippo a") == ["a", "hippo", "a", "[end]", "[padding]"]


def test_ids_that_a_tokenizer_does_not_know_are_numbers(tokenizer, pieces):
    ids = torch.tensor([[49405, 60000, 320]])
    assert words(tokenizer, "?", ids)[1] == "#60000"
    assert words(pieces, "?", torch.tensor([[3, 500, 3]])) == ["a", "#500", "a"]


def test_of_an_unknown_tokenizer_every_id_is_a_word():
    ids = torch.tensor([[3, 4, 0, 0]])
    assert words(len, "?", ids) == ["3", "4", "0", "0"]
