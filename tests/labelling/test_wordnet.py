"""WordNet ids and ImageNet's classes, beside what open_clip and timm ship."""

from __future__ import annotations

import pytest
from open_clip import IMAGENET_CLASSNAMES

from clip_lens_plugin.labelling.names import comparable
from clip_lens_plugin.labelling.wordnet import imagenet_ids, imagenet_names, imagenet_positions, text_of, worded


def test_imagenets_classes_stand_in_their_order():
    assert len(set(imagenet_ids())) == len(set(imagenet_names())) == 1000
    assert list(imagenet_ids()) == sorted(imagenet_ids())
    for position, (number, words) in {0: ("n01440764", "tench"), 999: ("n15075141", "toilet paper")}.items():
        assert (imagenet_ids()[position], imagenet_names()[position]) == (number, words)
    assert [text_of(name) for name in imagenet_names()] == list(IMAGENET_CLASSNAMES)
    assert worded(imagenet_ids()) == imagenet_names()


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("n02012849", 134),
        ("crane bird", 134),
        ("maillot", 638),
        ("great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias", 2),
        ("missile (2)", 744),
        ("crane", None),
        ("shark", None),
    ],
)
def test_a_class_is_known_by_its_id_its_name_and_its_words(name, position):
    assert imagenet_positions().get(name) == position


def test_words_of_other_ids_and_of_ids_with_equal_words():
    assert worded(["n00004475", "my class"]) == ("organism", "my class")
    both = worded(["n02012849", "n99999999", "crane bird"])
    assert both[0] == "crane bird (n02012849)"
    assert len(set(both)) == 3
    assert text_of("n01440764") == "tench"
    assert text_of("missile (2)") == "missile"
    assert text_of("vitamin (2)") == "vitamin (2)"


def test_spellings_of_one_name_compare_equal():
    for some, others in ((["Grey_Cat", "cafe\u0301 "], ["grey cat", "caf\u00e9"]), (["n01440764"], ["Tench"])):
        one, other = comparable(some, others)
        assert one == other
    assert comparable(["Cat", "cat"], ["CAT"]) == (["Cat", "cat"], ["CAT"])
