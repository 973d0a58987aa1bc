"""Text embeddings in parts, kept on disk, against open_clip's own."""

from __future__ import annotations

import open_clip
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.model.identity.probes import EMBEDDED_TEXTS, PROBE_TEXTS
from clip_lens_plugin.texts import cache, embedding
from clip_lens_plugin.texts.embedding import CACHE_VARIABLE, embed_texts
from tests.conftest import random_clip

pytestmark = pytest.mark.slow

TEXTS = [f"text {i}" for i in range(10)]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A cache folder of its own, and parts of four texts."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(embedding, "PART_TEXTS", 4)
    return tmp_path / "cache"


@pytest.fixture
def calls(model, monkeypatch) -> list[int]:
    """How many texts each call of the text tower is given; the probe texts are not counted."""
    found, encode = [], model.clip.encode_text

    probe = model.tokenizer(list(PROBE_TEXTS[:EMBEDDED_TEXTS]))

    def counting(tokens, **kwargs):
        if not torch.equal(tokens, probe):
            found.append(len(tokens))
        return encode(tokens, **kwargs)

    monkeypatch.setattr(model.clip, "encode_text", counting)
    return found


def expected(model, texts=TEXTS):
    with torch.no_grad():
        return model.clip.encode_text(model.tokenizer(texts), normalize=True)


def test_rows_are_open_clips_computed_or_read(model, folder):
    first, second = embed_texts(model, TEXTS), embed_texts(model, TEXTS)
    assert first.dtype == torch.float64
    torch.testing.assert_close(first, expected(model))
    assert torch.equal(first, second)


def test_texts_are_encoded_once_in_parts(model, folder, calls):
    embed_texts(model, TEXTS)
    assert calls == [4, 4, 2]
    embed_texts(model, TEXTS)
    assert calls == [4, 4, 2]
    assert len(list(folder.iterdir())) == 3


def test_fingerprint_is_computed_once_a_call_and_only_for_the_cache(model, folder, monkeypatch):
    counted, fingerprint = [], model.text_fingerprint
    monkeypatch.setattr(model, "text_fingerprint", lambda: counted.append(1) or fingerprint())
    embed_texts(model, TEXTS)
    assert len(counted) == 1
    monkeypatch.setenv(CACHE_VARIABLE, "")
    embed_texts(model, TEXTS)
    assert len(counted) == 1


def test_interrupted_work_goes_on_where_it_stopped(model, folder, calls):
    def interrupt(done: int, total: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_texts(model, TEXTS, interrupt)
    calls.clear()
    steps: list[tuple[int, int]] = []
    found = embed_texts(model, TEXTS, lambda *step: steps.append(step))
    assert calls == [4, 2]
    assert steps == [(4, 10), (8, 10), (10, 10)]
    torch.testing.assert_close(found, expected(model))


def test_changed_texts_weights_and_dtypes_are_encoded_anew(model, folder, tokenizer, calls):
    plain = embed_texts(model, TEXTS[:4])
    torch.testing.assert_close(embed_texts(model, TEXTS[3::-1]), plain.flip(0))
    assert calls == [4, 4]
    other = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64, seed=1), tokenizer=tokenizer)
    torch.testing.assert_close(embed_texts(other, TEXTS[:4]), expected(other, TEXTS[:4]))
    with torch.no_grad():
        model.clip.text_projection.mul_(-1)
    torch.testing.assert_close(embed_texts(model, TEXTS[:4]), -plain)
    single = HookedCLIP.from_open_clip(random_clip(), tokenizer=tokenizer)
    assert embed_texts(single, TEXTS[:4]).dtype == torch.float32


def test_means_of_several_texts_are_all_that_is_kept(model, folder, calls):
    found = embed_texts(model, TEXTS[:9], mean_of=3)
    assert calls == [3, 3, 3]
    means = expected(model, TEXTS[:9]).reshape(3, 3, -1).mean(1)
    torch.testing.assert_close(found, means / means.norm(dim=-1, keepdim=True))
    assert torch.equal(embed_texts(model, TEXTS[:9], mean_of=3), found)
    assert calls == [3, 3, 3, 9]  # The 9 are this test's own.
    assert {len(load_file(file)["embeddings"]) for file in folder.iterdir()} == {1}
    torch.testing.assert_close(embed_texts(model, TEXTS[:3]), expected(model, TEXTS[:3]))
    calls.clear()
    embed_texts(model, TEXTS[:3], mean_of=3)
    assert calls == []  # Single texts did not take the place of their mean.


def test_more_texts_a_mean_than_a_part_holds_are_one_part(model, folder, calls):
    embed_texts(model, TEXTS, mean_of=5)
    assert calls == [5, 5]


@pytest.mark.parametrize("what", ["bytes", "empty", "other name", "other shape", "other dtype", "NaN"])
def test_broken_files_are_replaced(model, folder, calls, what):
    first = embed_texts(model, TEXTS[:4])
    (file,) = folder.iterdir()
    rows = {"other shape": first[:3], "other dtype": first.float(), "NaN": first * float("nan")}
    if what in ("bytes", "empty"):
        file.write_bytes(b"broken" if what == "bytes" else b"")
    else:
        save_file({"other" if what == "other name" else "embeddings": rows.get(what, first).contiguous()}, file)
    assert torch.equal(embed_texts(model, TEXTS[:4]), first)
    assert calls == [4, 4]
    assert torch.equal(embed_texts(model, TEXTS[:4]), first)
    assert calls == [4, 4]


def test_a_cache_that_cannot_be_written_loses_nothing(model, folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file"), str(tmp_path / "file" / "below"), ""):
        monkeypatch.setenv(CACHE_VARIABLE, place)
        torch.testing.assert_close(embed_texts(model, TEXTS), expected(model))


@pytest.mark.parametrize("error", [OSError("disk full"), SafetensorError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_no_file(model, folder, monkeypatch, error):
    def half_a_file(tensors, file):
        file.write_bytes(b"half")
        raise error

    monkeypatch.setattr(cache, "save_file", half_a_file)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            embed_texts(model, TEXTS)
    else:
        torch.testing.assert_close(embed_texts(model, TEXTS), expected(model))
    assert list(folder.iterdir()) == []


def test_texts_that_cannot_be_embedded_are_refused(model):
    for texts in ([], "a dog"):
        with pytest.raises(ValueError, match="list of one text or more"):
            embed_texts(model, texts)
    for mean_of in (0, 3):
        with pytest.raises(ValueError, match=f"multiple of {mean_of} texts, got 10"):
            embed_texts(model, TEXTS, mean_of=mean_of)
    with pytest.raises(ValueError, match="without a tokenizer"):
        embed_texts(HookedCLIP.from_open_clip(random_clip()), TEXTS)


def test_bfloat16_rows_come_back_from_disk_as_they_were(tokenizer, folder):
    clip = random_clip()
    open_clip.model.convert_weights_to_lp(clip, torch.bfloat16)
    half = HookedCLIP.from_open_clip(clip, tokenizer=tokenizer)
    first = embed_texts(half, TEXTS)
    assert first.dtype == torch.bfloat16
    assert torch.equal(embed_texts(half, TEXTS), first)
