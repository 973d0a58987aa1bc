"""The gap over the words of two texts."""

from __future__ import annotations

import pytest
import torch
from open_clip.hf_model import HFTextEncoder
from torch import nn

from clip_lens_plugin import HookedCLIP, decompose_text, explain
from clip_lens_plugin.decisions.words import word_table
from clip_lens_plugin.scenes import draw, sample_scenes
from tests.decisions.conftest import classifier, unit

A, B = "a red circle", "two blue stars"


@pytest.fixture(scope="module")
def scenes() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu", dtype=torch.float64)


@pytest.fixture(scope="module")
def picture():
    return draw(sample_scenes(1, seed=1)[0])


def test_words_and_the_rest_sum_to_the_gap(scenes, picture) -> None:
    found = explain(scenes, picture, A, B, random_sets=0)
    words = found.words
    assert words is not None
    assert words in found.tables
    assert words.error < 1e-12
    assert words.rows["gap"].sum() == pytest.approx(found.gap, abs=1e-12)
    image = nn.functional.normalize(scenes(scenes.prepare(picture)).detach(), dim=-1)[0]
    texts = decompose_text(scenes, [A, B]).normalized()
    rows = words.rows.query("part == 'word'")
    assert set(rows["text"]) == {A, B}
    for position, (text, sign) in enumerate(((A, 1), (B, -1))):
        shown = [word.text for word in texts.spelt[position].words]
        expected = sign * texts.by_word()[position] @ image
        ours = rows[rows["text"] == text].set_index("word")["gap"]
        for word in {"red", "circle", "two", "blue", "stars"} & set(shown):
            assert ours[word] == pytest.approx(float(expected[shown.index(word)]), abs=1e-12)


def test_words_are_named_in_print_table_and_page(scenes, picture) -> None:
    found = explain(scenes, picture, A, B, random_sets=0)
    assert "These words of the two texts make most of it: “" in repr(found)
    table = found.to_dataframe()
    assert table.groupby("table")["gap"].sum().to_numpy() == pytest.approx(3 * [found.gap], abs=1e-12)
    assert set(table.query("part == 'word'")["text"]) == {A, B}
    page = found.view()._repr_html_()
    assert "Words, through the text tower" in page.replace("&#39;", "'")
    assert "in “a red circle”" in page
    assert page.count("patch embedding") == 2  # Of heads and of patches.
    assert page.count("token embedding") == 1


def test_classes_have_no_words(scenes, picture) -> None:
    found = explain(scenes, picture, classifier(unit(2, 128), "A", "B"), random_sets=0)
    assert found.words is None
    assert [table.name for table in found.tables] == ["heads", "patches"]


def test_a_text_tower_of_another_architecture_has_none(scenes) -> None:
    clip = nn.Module()
    text = HFTextEncoder.__new__(HFTextEncoder)
    nn.Module.__init__(text)
    clip.visual, clip.text, clip.logit_scale = scenes.clip.visual, text, scenes.clip.logit_scale
    other = HookedCLIP.from_open_clip(clip)
    assert word_table(other, unit(1, 128), (A, B), 0.1) is None
