"""Groups from columns and from a table as Waterbirds has it: found by name, unknown ones kept out, mistakes named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from clip_lens_plugin import Groups
from clip_lens_plugin.groups.four import four_groups
from clip_lens_plugin.groups.grouping import groups_of

NAMES = ("001.Albatross/a_1.jpg", "001.Albatross/a_2.jpg", "002.Auklet/b_1.jpg", "002.Auklet/b_2.jpg")
HEADER = "img_id,img_filename,y,split,place,place_filename"
ROWS = (
    "1,002.Auklet/b_2.jpg,1,2,0,/b/bamboo_forest/00000131.jpg",
    "2,001.Albatross/a_1.jpg,0,0,1,/o/ocean/00003054.jpg",
    "3,001.Albatross/a_2.jpg,0,1,0,/o/ocean/00003055.jpg",
    "4,002.Auklet/b_1.jpg,1,0,1,/l/lake/00000002.jpg",
    "5,003.Other/c_1.jpg,1,0,1,/l/lake/00000003.jpg",
)


@pytest.fixture
def metadata(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_text("\n".join([HEADER, *ROWS]) + "\n")
    return path


def test_waterbirds_as_distributed(metadata):
    for given in (metadata, metadata.parent):
        found = Groups.read(given, NAMES)
        assert found.labels.tolist() == [0, 0, 1, 1]
        assert found.values.tolist() == [1, 0, 1, 0]
        assert found.parts == ("means", "validation", "means", "test")
        assert (found.classes, found.cues) == (("0", "1"), ("0", "1"))
    assert four_groups(found).names == ("0, 0", "0, 1", "1, 0", "1, 1")
    assert four_groups(found).number.tolist() == [1, 0, 3, 2]


def test_other_columns_and_names(tmp_path):
    path = tmp_path / "birds.csv"
    path.write_text("file;kind;habitat;class\na_2;x;sea;bird\na_1;x;land;fish\n")
    found = Groups.read(path, NAMES[:2], cue_column="habitat")
    assert [found.classes[i] for i in found.labels] == ["fish", "bird"]
    assert [found.cues[i] for i in found.values] == ["land", "sea"]
    assert found.parts is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows[:2], *rows[3:]], "no label for 1 of 4 samples, the first '001.Albatross/a_1.jpg'"),
        (lambda rows: [*rows, rows[1]], "names '002.Auklet/b_2.jpg' on line 2 and again"),
        (lambda rows: [rows[0].replace("place,", "where,"), *rows[1:]], "no column 'place' for the cue; it has img_id"),
        (
            lambda rows: [rows[0].replace("img_id", "label"), *rows[1:]],
            "several columns that may hold classes, label, y",
        ),
        (lambda rows: [*rows[:-1], rows[-1].replace(",1,0,1,", ",1,7,1,")], None),
        (lambda rows: [rows[0], rows[1].replace(",1,2,0,", ",1,dev,0,"), *rows[2:]], "A split is 'train'"),
        (lambda rows: [rows[0].replace(",y,", ",z,"), *rows[1:]], "no column that is known to hold classes"),
    ],
)
def test_mistakes_are_named(metadata, change, message):
    metadata.write_text("\n".join(change([HEADER, *ROWS])) + "\n")
    if message is None:  # Of an image that is not among ours.
        assert len(Groups.read(metadata, NAMES)) == 4
        return
    with pytest.raises(ValueError, match=message):
        Groups.read(metadata, NAMES)


def test_columns_of_any_kind():
    expected = [0, 1, -1]
    for labels in ([0, 1, -1], np.array([0, 1, -1]), torch.tensor([0, 1, -1]), pd.Series([0, 1, -1])):
        assert Groups.of(labels, ["a", "b", None]).labels.tolist() == expected
    texts = Groups.of(pd.Series(["x", "y", None]), [True, False, True], ["train", "val", "test"])
    assert texts.labels.tolist() == expected
    assert texts.values.tolist() == [1, 0, 1]
    assert texts.parts == ("means", "validation", "test")
    for wrong, message in (
        (([0, 1], [0]), "2 labels, 1 cues"),
        (([0.5, 1], [0, 1]), "whole numbers or texts"),
        (("ab", [0, 1]), "a value for each image"),
        (([0, 1], [0, 1], ["train", "dev"]), "A split is"),
    ):
        with pytest.raises(ValueError, match=message):
            Groups.of(*wrong)
    with pytest.raises(ValueError, match="none of land, water"):
        Groups.of([0, 1], [0, 2], cue_names=["land", "water"])


def test_two_of_more_and_empty_ones():
    groups = Groups.of(["a", "b", "c", "a", "b"], ["u", "u", "v", "w", "w"])
    with pytest.raises(ValueError, match=r"there are 3 classes \(a, b, c\)"):
        four_groups(groups)
    found = four_groups(groups, (("b", "a"), ("u", 2)))
    assert found.names == ("b, u", "b, w", "a, u", "a, w")
    assert found.number.tolist() == [2, 0, -1, 3, 1]
    for pairs, message in (
        ((("a", "c"), ("u", "v")), r"No image is in the groups \(a, v\); \(c, u\)"),
        ((("a", "d"), ("u", "v")), "There is no class 'd'"),
        ((("a", "a"), ("u", "v")), "'a' twice"),
        ((("a", "b", "c"), ("u", "v")), "Each of pairs holds two"),
        ("ab", "pairs are"),
    ):
        with pytest.raises(ValueError, match=message):
            four_groups(groups, pairs)


def test_cues_beside_labels_of_the_data(plain, grouped):
    with pytest.raises(ValueError, match="no labels of their own"):
        groups_of([0] * len(plain), plain)
    with pytest.raises(ValueError, match="110 images need as many groups, got 2"):
        groups_of(Groups.of([0, 1], [0, 1]), plain)
    assert groups_of(grouped, plain) is grouped
