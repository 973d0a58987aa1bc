"""The common words that ship."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from clip_lens_plugin import TextPool
from clip_lens_plugin.texts import pool as pool_module

ROOT = Path(__file__).parents[2]
LICENCES = Path(pool_module.__file__).with_name("COMMON_WORDS_LICENSES.txt")
FRAGMENTS = "ing tion ers abe didn doesn ain ting ere ell mas tor zing ism burg lees ings dents"
CLOSED = "the and for with this what will can have her them because"
NAMES = "john peter tom lee japan twitter google paris london monday jersey"
FORMS = "dogs went better worst eye hands cows swimming felt quickly really men foods"
PROFANE = "fuck shit crap piss fart bitch cunt whore slut fag coon nigger"
PAIRS = "brief discus eat mean new odd pant remain reserve short surrounding tear teen thank tight"
"""Words that stand beside another of themselves and "s"; fields of study, such as economics, aside."""


@pytest.fixture(scope="module")
def pool() -> TextPool:
    return TextPool.common_words()


def test_there_are_10_000_different_words(pool):
    assert len(pool) == len(set(pool.texts)) == 10_000
    assert all(re.fullmatch("[a-z]{3,}", word) for word in pool.texts)


def test_n_takes_the_commonest(pool):
    few = TextPool.common_words(3_498)
    assert (few.texts, few.themes) == (pool.texts[:3_498], pool.themes[:3_498])
    assert len(TextPool.common_words(1)) == 1


@pytest.mark.parametrize("n", [0, -1, 10_001])
def test_another_n_is_refused(n):
    with pytest.raises(ValueError, match=r"n must be (at most 10,000|a whole number of at least 1)"):
        TextPool.common_words(n)


@pytest.mark.parametrize("left_out", [FRAGMENTS, CLOSED, NAMES, FORMS, PROFANE])
def test_what_is_no_word_to_code_with_is_left_out(pool, left_out):
    assert set(left_out.split()) & set(pool.texts) == set()


def test_no_word_stands_beside_its_regular_plural(pool):
    words = set(pool.texts)
    assert {word for word in words if word + "s" in words and not word.endswith("ic")} == set(PAIRS.split())


def test_most_are_one_token_of_open_clips(pool, tokenizer):
    assert sum(len(tokenizer.encode(word)) == 1 for word in pool.texts[::10]) > 950


def test_the_commonest_come_first(pool):
    place = {word: i for i, word in enumerate(pool.texts)}
    for common, rare in (("water", "ketchup"), ("dog", "llama"), ("house", "pagoda"), ("red", "crimson")):
        assert place[common] + 1_000 < place[rare]
    described = Counter(word for text in TextPool.general().texts for word in text.split())
    first, *_, last = (sum(described[word] for word in pool.texts[at : at + 2_500]) for at in range(0, 10_000, 2_500))
    assert first > 5 * last


def test_themes_are_given_where_they_are_certain(pool):
    themes = dict(zip(pool.texts, pool.themes, strict=True))
    certain = {"dog": "animal", "pizza": "food", "red": "colour", "blue": "colour", "tulip": "plant", "hat": "clothing"}
    certain |= {"violin": "musical instrument", "truck": "vehicle", "ten": "quantity", "swim": "action"}
    assert {word: themes[word] for word in certain} == certain
    assert {themes[word] for word in ("bank", "crane", "bat", "orange", "light", "shorts", "happy")} == {""}
    assert sum(map(bool, pool.themes)) == 3_221
    said = TextPool.common_words.__doc__ or ""
    assert "3,221 have a theme" in said


def test_the_sources_licences_are_beside_it_and_travel_with_the_package():
    text = LICENCES.read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in text
    assert "Copyright 2000-2018 by Kevin Atkinson" in text
    assert "Gabriel Ilharco" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert str(LICENCES.relative_to(ROOT).as_posix()) in project["project"]["license-files"]
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [LICENCES.relative_to(ROOT).parts[0]]
