"""Pools of texts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from open_clip import IMAGENET_CLASSNAMES

from clip_lens_plugin import TextPool
from clip_lens_plugin.texts.embedding import CACHE_VARIABLE

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


def test_from_file_takes_a_text_that_occurs_again_once_and_says_so(tmp_path):
    file = tmp_path / "pool.txt"
    file.write_text("a dog\nanimals\ta cat\n a dog \nothers\ta cat\na bird\na dog", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"pool\.txt has 3 texts that stand in it before, the first 'a dog'") as caught:
        pool = TextPool.from_file(file)
    assert len(caught) == 1
    assert (pool.texts, pool.themes) == (("a dog", "a cat", "a bird"), ("", "animals", ""))


def test_bad_pools_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one or more texts, got none"):
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


@pytest.mark.parametrize("place", ["cache", ""])
def test_embeddings_are_those_of_the_filled_texts(model, monkeypatch, tmp_path, place):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / place) if place else "")
    pool = TextPool.from_strings(["a dog", "a cat"])
    for _ in range(2):
        torch.testing.assert_close(pool.embed(model), model.encode_text(["a dog", "a cat"]))
        framed = model.encode_text(["a photo of a dog", "a photo of a cat"])
        torch.testing.assert_close(pool.embed(model, "a photo of {}"), framed)


def test_progress_is_shown_while_texts_are_encoded(model, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, "")
    steps: list[tuple[int, int]] = []
    TextPool.from_strings([f"text {i}" for i in range(300)]).embed(model, on_progress=lambda *step: steps.append(step))
    assert len(steps) > 1
    assert steps == sorted(steps)
    assert steps[-1] == (300, 300)


def test_template_without_a_place_is_refused(model):
    with pytest.raises(ValueError, match="where the text goes"):
        TextPool.from_strings(["a dog"]).embed(model, "a photo")
