"""No embedding comes from the cache that the model would not give now: every kind of stale or damaged file."""

from __future__ import annotations

import os
import threading
import warnings
from functools import partial

import open_clip
import pytest
import torch
from safetensors.torch import load, load_file, save, save_file
from torch import nn

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.adapters.text.tokenizers import is_known
from clip_lens_plugin.texts import cache, embedding
from clip_lens_plugin.texts.cache import CACHE_VARIABLE
from clip_lens_plugin.texts.embedding import embed_texts
from tests.adapters.conversion import clip_model, letters_tokenizer
from tests.conftest import random_clip

pytestmark = pytest.mark.slow

TEXTS = ["a dog", "a cat", "three stars"]


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """A cache folder of its own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tokenizer():
    """Its own for this module: tests put other words into copies of it."""
    return open_clip.get_tokenizer("ViT-B-32")


def expected(model, texts=TEXTS):
    with torch.no_grad():
        return model.clip.encode_text(model.tokenizer(texts), normalize=True)


def _swap(tokenizer, one="dog</w>", other="cat</w>"):
    words = tokenizer.encoder
    words[one], words[other] = words[other], words[one]


CHANGES = {
    "activation": lambda m: setattr(m.clip.transformer.resblocks[0].mlp, "gelu", nn.SiLU()),
    "heads": lambda m: setattr(m.clip.transformer.resblocks[0].attn, "num_heads", 4),
    "pooling": lambda m: setattr(m.clip, "text_pool_type", "first"),
    "mask": lambda m: setattr(m.clip, "attn_mask", torch.zeros_like(m.clip.attn_mask)),
    "epsilon": lambda m: setattr(m.clip.transformer.resblocks[0].ln_1, "eps", 1.0),
    "vocabulary": lambda m: _swap(m.tokenizer),
    "merges": lambda m: m.tokenizer.cache.clear() or m.tokenizer.bpe_ranks.clear(),
    "cleaning": lambda m: setattr(m.tokenizer, "clean_fn", lambda text: text + " !"),
    "hook": lambda m: m.clip.ln_final.register_forward_hook(lambda module, args, output: output.flip(-1)),
    "forward": lambda m: setattr(m.clip.ln_final, "forward", lambda x: x.flip(-1)),
    "data": lambda m: m.clip.text_projection.data.mul_(torch.linspace(1, 2, 24, dtype=torch.float64)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_embeddings_changes_what_is_read(change, folder):
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64), tokenizer=open_clip.SimpleTokenizer())
    before = embed_texts(model, TEXTS)
    CHANGES[change](model)
    found = embed_texts(model, TEXTS)
    torch.testing.assert_close(found, expected(model), rtol=1e-9, atol=1e-9)
    assert (found - before).abs().max() > 1e-3
    torch.testing.assert_close(embed_texts(model, TEXTS), found)


def test_hugging_faces_tokenizer_counts_with_its_vocabulary(folder, tmp_path):
    from clip_lens_plugin.model.loading.tokenizers import HuggingFaceTokenizer

    clip = clip_model(random_clip())
    one = HookedCLIP.from_transformers(clip, tokenizer=HuggingFaceTokenizer(letters_tokenizer(tmp_path / "a"), 77))
    same = HookedCLIP.from_transformers(clip, tokenizer=HuggingFaceTokenizer(letters_tokenizer(tmp_path / "b"), 77))
    other = letters_tokenizer(tmp_path / "c", start=49300)
    moved = HookedCLIP.from_transformers(clip, tokenizer=HuggingFaceTokenizer(other, 77))
    cut = HookedCLIP.from_transformers(clip, tokenizer=HuggingFaceTokenizer(letters_tokenizer(tmp_path / "d"), 60))
    assert is_known(one.tokenizer)
    fingerprints = [each.text_fingerprint() for each in (one, same, moved, cut)]
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3
    one.encode_text(TEXTS)  # Sets the length and padding of the tokenizer inside.
    assert one.text_fingerprint() == fingerprints[0]


def test_of_a_tokenizer_that_cannot_be_described_the_ids_count(folder):
    words = {"a": 5, "dog": 6, "cat": 7}

    def own(texts):
        found = torch.zeros(len(texts), 77, dtype=torch.long)
        for row, text in enumerate(texts):
            ids = [words.get(word, 9) for word in text.split()][:70]
            found[row, : len(ids) + 2] = torch.tensor([49406, *ids, 49407])
        return found

    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64), tokenizer=own)
    embed_texts(model, TEXTS)
    words["dog"], words["cat"] = words["cat"], words["dog"]
    torch.testing.assert_close(embed_texts(model, TEXTS), expected(model))


def test_a_word_met_before_does_not_count(folder, tokenizer):
    model = HookedCLIP.from_open_clip(random_clip(), tokenizer=tokenizer)
    before = model.text_fingerprint()
    model.encode_text("an extraordinarily uncommon word")
    assert model.text_fingerprint() == before


def test_under_autocast_a_coarser_embedding_is_kept_apart(folder, tokenizer):
    model = HookedCLIP.from_open_clip(random_clip(), tokenizer=tokenizer)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = embed_texts(model, TEXTS)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(embed_texts(model, TEXTS), expected(model))
    assert (coarse - expected(model)).abs().max() > 1e-4


@pytest.fixture
def kept(folder, tokenizer):
    """A model, its embeddings and their file."""
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64), tokenizer=tokenizer)
    found = embed_texts(model, TEXTS)
    (file,) = folder.iterdir()
    return model, found, file


def encoded_anew(model, monkeypatch) -> list[int]:
    """How many texts are encoded from here on."""
    found = []

    def counting(texts, *args, **kwargs):
        if len(texts) != 4:  # As many as there are probe texts.
            found.append(len(texts))
        return type(model).encoded(model, texts, *args, **kwargs)

    monkeypatch.setattr(model, "encoded", counting)
    return found


def test_no_flipped_bit_is_believed(kept, monkeypatch):
    model, found, file = kept
    whole = file.read_bytes()
    key = embedding._Cache(model)._key(TEXTS, 1)
    probe = model.text_probe()
    read = partial(cache.read, file, key, (3, 24), torch.float64, lambda: probe)
    kept_rows = read()
    assert kept_rows is not None
    assert torch.equal(kept_rows.embeddings, found)
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(8 * len(whole), (400,), generator=generator).tolist()
    for place in [*range(0, 64), *places]:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        assert read() is None, place
    file.write_bytes(whole)
    assert read() is not None


def _zeros(tensors):
    tensors["embeddings"].zero_()


def _swapped_rows(tensors):
    tensors["embeddings"].copy_(tensors["embeddings"].flip(0))


def _other_cut(tensors):
    tensors["cut"] = torch.tensor([1])


@pytest.mark.parametrize("damage", [_zeros, _swapped_rows, _other_cut])
def test_other_rows_are_not_believed(kept, monkeypatch, damage):
    model, found, file = kept
    tensors = load_file(file)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    damage(tensors)
    save_file(tensors, file)
    calls = encoded_anew(model, monkeypatch)
    assert torch.equal(embed_texts(model, TEXTS), found)
    assert torch.equal(embed_texts(model, TEXTS), found)
    assert calls == [3]


def test_a_file_of_other_texts_or_of_the_first_format_in_its_place_is_computed_anew(kept, monkeypatch, folder):
    model, found, file = kept
    embed_texts(model, TEXTS[::-1])
    other = next(each for each in folder.iterdir() if each != file)
    for content in (other.read_bytes(), save({"embeddings": found})):
        file.write_bytes(content)
        calls = encoded_anew(model, monkeypatch)
        assert torch.equal(embed_texts(model, TEXTS), found)
        assert calls == [3]


def test_a_file_of_another_probe_is_computed_anew(kept, monkeypatch):
    """As of another version of a library, that runs otherwise what is called the same."""
    model, found, file = kept
    key = embedding._Cache(model)._key(TEXTS, 1)
    probe = model.text_probe()
    for share, believed in ((1e-8, True), (1e-3, False)):
        moved = probe + share * torch.ones(24) / 24**0.5
        cache.write_quietly(cache.CachedTexts(found.flip(0), cache.UnseenTexts(), moved), file, key)
        assert torch.equal(embed_texts(model, TEXTS), found.flip(0) if believed else found)


def test_what_is_no_regular_file_does_not_hang(kept, tmp_path, monkeypatch):
    model, found, file = kept
    whole = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    assert torch.equal(embed_texts(model, TEXTS), found)
    file.unlink()
    os.mkfifo(tmp_path / "fifo")
    for target in (tmp_path / "fifo", "/dev/zero", tmp_path / "nowhere", file):
        file.unlink(missing_ok=True)
        file.symlink_to(target)
        assert torch.equal(embed_texts(model, TEXTS), found)
    file.unlink(missing_ok=True)
    file.mkdir()
    assert torch.equal(embed_texts(model, TEXTS), found)
    file.rmdir()
    (tmp_path / "moved").write_bytes(whole)
    file.symlink_to(tmp_path / "moved")
    calls = encoded_anew(model, monkeypatch)
    assert torch.equal(embed_texts(model, TEXTS), found)
    assert calls == []


def test_a_file_that_is_far_too_large_is_not_read(kept):
    model, found, file = kept
    with file.open("ab") as opened:
        opened.truncate(2**40)  # Takes no room, but would take all memory.
    assert torch.equal(embed_texts(model, TEXTS), found)


def test_threads_may_write_the_same_part(folder, tokenizer, monkeypatch):
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64), tokenizer=tokenizer)
    found: list = [None] * 6

    def run(i: int) -> None:
        found[i] = embed_texts(model, TEXTS)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(each, found[0]) for each in found)
    assert [file.suffix for file in folder.iterdir()] == [".safetensors"]
    assert "digest" in load(next(folder.iterdir()).read_bytes())


def test_a_text_tower_that_gives_nan_is_refused_and_not_kept(folder, tokenizer):
    model = HookedCLIP.from_open_clip(random_clip(), tokenizer=tokenizer)
    with torch.no_grad():
        model.clip.token_embedding.weight[tokenizer.encode("cat")[0]] = float("nan")
    for use in (model.encode_text, lambda texts: embed_texts(model, texts)):
        with pytest.raises(ValueError, match="NaN or infinite values for 'a cat'"):
            use(TEXTS)
    assert not list(folder.glob("*"))


def test_texts_that_cancel_have_no_mean(folder):
    """Two opposite unit vectors: their mean is zero, which is no direction."""
    model = HookedCLIP.from_open_clip(random_clip(), tokenizer=open_clip.SimpleTokenizer())
    rows = torch.eye(24)[:1] * torch.tensor([[1.0], [-1.0]])
    model.clip.encode_text = lambda tokens, normalize: rows[torch.arange(len(tokens)) % 2]
    with pytest.raises(ValueError, match="must be unit vectors"):
        embed_texts(model, ["a", "b"], mean_of=2)


def test_cut_texts_are_said_once_computed_or_read(folder, tokenizer, monkeypatch):
    monkeypatch.setattr(embedding, "PART_TEXTS", 2)
    model = HookedCLIP.from_open_clip(random_clip(), tokenizer=tokenizer)
    texts = ["a dog", "word " * 75, "word " * 76, "a cat", "word " * 200]
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"2 of 5 texts are longer.*'word word") as caught:
            embed_texts(model, texts)
        assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed_texts(model, texts[:2])
