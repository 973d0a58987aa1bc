"""Contributions of texts against a plain restatement, for every kind of text tower."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clip_lens_plugin import HookedCLIP, HookedText, TextContributions, decompose, decompose_text
from clip_lens_plugin.decomposition.text_contributions import over_words
from clip_lens_plugin.model.text.spelling import Spelt, Word
from tests.support.text_families import TEXT_FAMILIES, own, some_ids


@pytest.fixture(scope="module")
def scenes() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu", dtype=torch.float64)


@pytest.mark.parametrize("constants", ["separate", "shared"])
@pytest.mark.parametrize("name", TEXT_FAMILIES)
def test_parts_sum_to_the_embedding(name, constants):
    text, ids = HookedText(TEXT_FAMILIES[name]().double()), some_ids()
    found = decompose_text(text, ids, constants=constants, neurons=not text.blocks[0].mlp.normalises_output)
    assert found.completeness_error() < 1e-12
    by_head = torch.stack([torch.stack([found.tokens(l, h) for h in range(4)], 1) for l in range(3)], 1)
    torch.testing.assert_close(by_head.sum(3), found.heads)
    torch.testing.assert_close(by_head.sum((1, 2)), found.by_token())
    torch.testing.assert_close(found.stack()[0].sum(1), found.embedding)


def test_single_precision_is_complete():
    for make in TEXT_FAMILIES.values():
        assert decompose_text(HookedText(make().float()), some_ids()).completeness_error() < 1e-5


@torch.no_grad()
def test_tokens_are_those_of_a_plain_restatement():
    clip: Any = own(pool_type="eos", eos_id=99).double()
    text, ids = HookedText(clip), some_ids()
    found = decompose_text(text, ids)
    tower, heads, width = clip.text, 4, 10
    x = tower.token_embedding(ids) + tower.positional_embedding
    at = [row.tolist().index(99) for row in ids]
    streams, added = [], []
    for block in tower.transformer.resblocks:
        y = block.ln_1(x)
        q, k, v = (y @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, -1)
        W_O = block.attn.out_proj.weight
        by_head, out = torch.zeros(len(ids), heads, ids.shape[1], 40, dtype=x.dtype), torch.zeros_like(x)
        for h in range(heads):
            own_part = slice(h * width, (h + 1) * width)
            scores = q[..., own_part] @ k[..., own_part].mT / width**0.5
            pattern = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf")).softmax(-1)
            written = v[..., own_part] @ W_O[:, own_part].T
            out += pattern @ written
            for b, position in enumerate(at):
                by_head[b, h] = pattern[b, position, :, None] * written[b]
        x = x + out + block.attn.out_proj.bias
        mlp = block.mlp(block.ln_2(x))
        x = x + mlp
        streams.append((by_head, mlp))
    for by_head, _ in streams:
        centred = by_head - by_head.mean(-1, keepdim=True)
        sigma = torch.stack([(x[b, p].var(unbiased=False) + 1e-5).sqrt() for b, p in enumerate(at)])
        added.append(centred / sigma[:, None, None, None] * tower.ln_final.weight @ tower.text_projection)
    for layer in range(3):
        for head in range(heads):
            torch.testing.assert_close(found.tokens(layer, head), added[layer][:, head], rtol=1e-10, atol=1e-12)


def test_what_a_causal_tower_does_not_see_adds_nothing():
    text, ids = HookedText(own().double()), some_ids()
    behind = torch.arange(12) > (ids == 99).int().argmax(-1)[:, None]
    assert float(decompose_text(text, ids).by_token()[behind].abs().max()) == 0.0
    unmasked = HookedText(own(no_causal_mask=True).double())
    assert float(decompose_text(unmasked, ids).by_token()[behind].abs().max()) > 0.01


def test_words_are_their_tokens_together(scenes):
    found = decompose_text(scenes, ["red circle", "a drawing of two small hippopotamuses"])
    assert isinstance(found, TextContributions)
    assert found.names == ("red circle", "a drawing of two small hippopotamuses")
    shown = [[word.text for word in each.words] for each in found.spelt]
    assert shown[0] == ["[start]", "red", "circle", "[end]", "[padding]"]
    assert "hippopotamuses" in shown[1]
    for whole, words, text in zip(found.by_token(), found.by_word(), found.spelt, strict=True):
        torch.testing.assert_close(words.sum(0), whole.sum(0))
        long = max(text.words, key=lambda word: len(word.tokens))
        torch.testing.assert_close(words[text.words.index(long)], whole[long.tokens.start : long.tokens.stop].sum(0))
    assert found.words(1, 2)[0].shape == (5, 128)


def test_rows_units_and_batches(scenes):
    texts = ["red circle", "blue star", "a green square on white"]
    whole = decompose_text(scenes, texts)
    parts = decompose_text(scenes.text, texts, batch_size=1)
    torch.testing.assert_close(whole.heads, parts.heads)
    torch.testing.assert_close(decompose_text(scenes, (each for each in texts)).heads, whole.heads)
    some = whole.normalized().select([2, 0])
    assert some.names == (texts[2], texts[0])
    assert [each.text for each in some.spelt] == [texts[2], texts[0]]
    torch.testing.assert_close(some.total(), scenes.encode_text([texts[2], texts[0]]))
    assert repr(some).startswith("TextContributions(texts=2, layers=2, heads=4")


def test_a_cache_knows_no_words(scenes):
    _, cache = scenes.text.run_with_cache(["red circle"])
    found = decompose(scenes.text, cache)
    assert found.completeness_error() < 1e-12
    with pytest.raises(ValueError, match="not known of a cache"):
        _ = found.spelt


def test_over_words():
    text = Spelt("ab c", ("a", "b", "c"), (Word("ab", range(2)), Word("c", range(2, 3))))
    torch.testing.assert_close(over_words(text, torch.tensor([1.0, 2.0, 4.0])), torch.tensor([3.0, 4.0]))
