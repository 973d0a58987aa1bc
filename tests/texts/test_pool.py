"""Pools of texts, and their embeddings kept on disk."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from open_clip import IMAGENET_CLASSNAMES

from clip_lens_plugin import HookedCLIP, TextPool
from clip_lens_plugin.texts.pool import CACHE_VARIABLE
from tests.conftest import random_clip

THEMES = """colours textures patterns shapes letters numbers counting places countries settings animals people
occupations objects food weather seasons emotions materials actions"""


def test_general_pool_is_large_and_covers_every_theme():
    pool = TextPool.general()
    counts = Counter(pool.themes)
    assert len(pool) >= 3000
    assert len({text.lower() for text in pool.texts}) == len(pool)
    wanted = [*THEMES.split(), "time of day", "photographic styles", "camera angles", "art media"]
    assert min(counts[theme] for theme in wanted) >= 40
    assert all(3 <= len(text.split()) <= 9 for text in pool.texts)


def test_imagenet_classes_are_open_clips():
    assert set(TextPool.imagenet_classes().texts) == set(IMAGENET_CLASSNAMES)


def test_scenes_pool_says_what_each_text_is_about():
    pool = TextPool.scenes()
    themes = dict(zip(pool.texts, pool.themes, strict=True))
    assert themes["red shape"] == "colour"
    assert themes["red circle"] == "colour and shape"
    assert themes["a navy background"] == "background"


def test_from_file_keeps_the_last_line_and_the_themes(tmp_path):
    file = tmp_path / "pool.txt"
    file.write_text("a dog\n\nanimals\ta cat\nthe last line", encoding="utf-8")
    pool = TextPool.from_file(file)
    assert pool.texts == ("a dog", "a cat", "the last line")
    assert pool.themes == ("", "animals", "")


def test_bad_pools_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one text"):
        TextPool.from_strings([])
    with pytest.raises(ValueError, match="'a dog', is there already"):
        TextPool.from_strings(["a dog", "a dog"])
    with pytest.raises(ValueError, match="is blank"):
        TextPool.from_strings(["a dog", " "])
    with pytest.raises(ValueError, match="the one string"):
        TextPool.from_strings("a dog")
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        TextPool.from_file(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        TextPool.from_file(tmp_path / "binary")


@pytest.fixture
def counted(model, monkeypatch, tmp_path):
    """The model, with a list that grows by each call of its text tower, and a cache folder of its own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    calls, encode = [], model.clip.encode_text

    def counting(*args, **kwargs):
        calls.append(1)
        return encode(*args, **kwargs)

    monkeypatch.setattr(model.clip, "encode_text", counting)
    return model, calls


def test_embeddings_are_computed_once(counted):
    model, calls = counted
    pool = TextPool.from_strings(["a dog", "a cat"])
    first, second = pool.embed(model), pool.embed(model)
    assert len(calls) == 1
    assert torch.equal(first, second)
    torch.testing.assert_close(first, model.encode_text(["a dog", "a cat"]))


def test_progress_is_told_while_texts_are_encoded(counted):
    model, _ = counted
    steps: list[tuple[int, int]] = []
    TextPool.from_strings([f"text {i}" for i in range(300)]).embed(model, on_progress=lambda *step: steps.append(step))
    assert len(steps) > 1
    assert steps == sorted(steps)
    assert steps[-1] == (300, 300)


def test_cache_is_keyed_by_weights_pool_and_template(counted, tokenizer):
    model, calls = counted
    pool = TextPool.from_strings(["a dog", "a cat"])
    plain, framed = pool.embed(model), pool.embed(model, "a photo of {}")
    assert len(calls) == 2
    torch.testing.assert_close(framed, model.encode_text(["a photo of a dog", "a photo of a cat"]))
    assert not torch.allclose(plain, framed)
    TextPool.from_strings(["a dog", "a cow"]).embed(model)
    other = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64, seed=1), tokenizer=tokenizer)
    assert not torch.allclose(pool.embed(other), plain)
    with torch.no_grad():
        model.clip.text_projection.mul_(-1)
    torch.testing.assert_close(pool.embed(model), -plain)


def test_broken_or_unwritable_cache_does_no_harm(counted, monkeypatch, tmp_path):
    model, _ = counted
    pool = TextPool.from_strings(["a dog"])
    expected = pool.embed(model)
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"broken")
    assert torch.equal(pool.embed(model), expected)
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file"), ""):
        monkeypatch.setenv(CACHE_VARIABLE, place)
        assert torch.equal(pool.embed(model), expected)


def test_template_without_a_place_is_refused(model):
    with pytest.raises(ValueError, match="where the text goes"):
        TextPool.from_strings(["a dog"]).embed(model, "a photo")
