"""How the common words that ship are chosen: the rules of docs/generate/words.py on a few planted words."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

GENERATE = Path(__file__).parents[2] / "docs" / "generate"
SYNSETS = {  # part: offset, lexicographer file, kind, words, pointers, gloss
    "noun": (
        "01 03 n animal -",
        "02 05 n dog @01n",
        "03 05 n crane @01n",
        "04 06 n crane -",
        "05 06 n shoe @06n",
        "06 06 n footwear,footgear -",
        "07 18 n Paris -",
        "08 04 n building -",
        "09 07 n color,colour,coloring,colouring -",
        "10 07 n red @09n",
        "11 18 n oaf ;u12n",
        "12 10 n ethnic_slur -",
        "13 06 n john -",
        "14 04 n jog -",
        "15 04 n damn -",
        "16 26 n rest -",
        "17 18 n red -",
        "18 04 n yodel -",
        "19 06 n ell -",
    ),
    "verb": ("21 36 v build -", "22 38 v run -", "23 38 v jog -", "24 35 v see -", "25 41 v rest -"),
    "adj": ("31 00 a chromatic -", "32 00 s red &31a,+10n", "33 00 a good -", "34 00 a ill -"),
    "adv": ("41 02 r quickly -", "42 02 r well -"),
}
COUNTS = """dog%1:05 02 1 40|crane%1:05 03 1 0|crane%1:06 04 2 0|shoe%1:06 05 1 12|building%1:04 08 1 9|red%1:07 10 1 5
red%1:18 17 2 4|oaf%1:18 11 1 3|john%1:06 13 1 0|jog%1:04 14 1 0|damn%1:04 15 1 4|rest%1:26 16 1 6|rest%2:41 25 1 6
build%2:36 21 1 80|run%2:38 22 1 90|jog%2:38 23 1 2|see%2:35 24 1 99|red%3:00 32 1 30|good%3:00 33 1 70|ill%3:00 34 1 1
quickly%4:02 41 1 9|well%4:02 42 1 30|yodel%1:04 18 1 0|ell%1:06 19 1 1|animal%1:03 01 1 9"""
EXCEPTIONS = {"verb": "saw see\nran run\n", "adj": "better good\n"}
LISTS = {
    "english-words.10": "the dog dogs shoe shoes building build run running saw see red good better quickly well rest",
    "american-words.20": "damn ill oaf jog",
    "english-words.50": "crane john ell",
    "english-words.70": "yodel",
    "british-words.10": "ere",
    "english-upper.10": "John Paris",
}
MERGES = """the ill ing dogs john dog shoes ell better quickly running saw damn oaf building red crane
yodel ere shoe rest jog paris"""


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(GENERATE))
    return importlib.import_module("words")


@pytest.fixture
def chosen(words: ModuleType, tmp_path: Path) -> dict[str, str]:
    """The theme of each word, commonest first."""
    wordnet, scowl = words.WordNet(planted_wordnet(tmp_path / "wordnet")), planted_scowl(tmp_path / "scowl")
    merges = {word: place for place, word in enumerate(MERGES.split())}
    return {word: theme for theme, word in words.rows(wordnet, words.Scowl.read(scowl), merges)}


def planted_wordnet(folder: Path) -> Path:
    """A database of WordNet's format, with the planted meanings."""
    folder.mkdir()
    for name, synsets in SYNSETS.items():
        (folder / f"data.{name}").write_text("  1 licence\n" + "".join(map(data_line, synsets)))
        (folder / f"{name}.exc").write_text(EXCEPTIONS.get(name, ""))
    senses = [sense.split() for line in COUNTS.splitlines() for sense in line.split("|")]
    lines = (f"{name}:00:: {offset:0>8} {place} {count}\n" for name, offset, place, count in senses)
    (folder / "index.sense").write_text("".join(lines))
    return folder


def data_line(planted: str) -> str:
    offset, file, kind, names, joined = planted.split()
    fields = [field for name in names.split(",") for field in (name, "0")]
    pointers = [] if joined == "-" else joined.split(",")
    fields = [f"{len(fields) // 2:02x}", *fields, f"{len(pointers):03d}"]
    for pointer in pointers:
        fields += [pointer[:-3], f"{pointer[-3:-1]:0>8}", pointer[-1], "0000"]
    return f"{offset:0>8} {file} {kind} {' '.join(fields)} | a gloss\n"


def planted_scowl(folder: Path) -> Path:
    (folder / "final").mkdir(parents=True)
    (folder / "misc").mkdir()
    for name, listed in LISTS.items():
        (folder / "final" / name).write_text("\n".join(listed.split()))
    (folder / "misc" / "profane.1").write_text("damn\n")
    return folder


def test_words_are_chosen_one_form_each_and_nothing_else(chosen):
    assert set(chosen) == {"dogs", "shoes", "good", "run", "see", "building", "red", "crane", "rest", "jog", "ill"}


def test_themes_are_those_of_all_meanings_or_of_nearly_all_that_is_tagged(chosen):
    certain = {"dogs": "animal", "shoes": "clothing", "red": "colour"}
    certain |= dict.fromkeys(["run", "see", "jog", "building"], "action")
    assert {word: theme for word, theme in chosen.items() if theme} == certain


def test_the_order_is_by_the_sum_of_both_places(chosen):
    """Places of dogs: 1 by merges and 3 by size and count; of good: 3 and 2; of ill: 0 and 9; of jog: 10 and 8."""
    assert list(chosen) == ["dogs", "good", "run", "see", "shoes", "ill", "red", "building", "rest", "crane", "jog"]


@pytest.mark.parametrize(
    ("form", "bases"),
    [
        ("saw", {("see", "v")}),
        ("running", {("run", "v")}),
        ("shoes", {("shoe", "n")}),
        ("better", {("good", "a")}),
        ("dog", set()),
    ],
)
def test_bases_are_those_of_the_exceptions_or_of_the_endings(words, tmp_path, form, bases):
    assert words.WordNet(planted_wordnet(tmp_path / "wordnet")).bases(form) == bases
