"""Labels given beside a data set: which name gets which, and what ends in one line."""

from __future__ import annotations

import pytest

from clip_lens_plugin.labelling.given import read_labels

NAMES = ("cat/a.jpg", "dog/b.jpg", "dog/c.png")


def given(tmp_path, text: str, suffix: str = "txt"):
    path = tmp_path / f"labels.{suffix}"
    path.write_text(text, encoding="utf-8")
    return path


TAKEN = {
    "csv": ("csv", "cat/a.jpg,ox\ndog/b.jpg,ape\ndog/c.png,ox\n", "ox ape ox"),
    "any order": ("csv", "dog/c.png,ox\ncat/a.jpg,ox\ndog/b.jpg,ape\n", "ox ape ox"),
    "header": ("csv", "filename,label\ncat/a.jpg,ox\ndog/b.jpg,ape\ndog/c.png,ox\n", "ox ape ox"),
    "label first": ("csv", "label,filename\nox,cat/a.jpg\nape,dog/b.jpg\nox,dog/c.png\n", "ox ape ox"),
    "more columns": ("csv", "image_id,split,label\na,1,ox\nb,1,ape\nc,1,ox\n", "ox ape ox"),
    "semicolons": ("csv", "a.jpg;ox\nb.jpg;ape\nc.png;ox\n", "ox ape ox"),
    "quoted": ("csv", '"a.jpg","grey ox, old"\n"b.jpg","ape"\n"c.png","ape"\n', "grey ox, old|ape|ape"),
    "tsv": ("tsv", "a\tox\nb\tape\nc\tox\n", "ox ape ox"),
    "spaces": ("txt", "cat/a.jpg ox\ndog/b.jpg ape\ndog/c.png ox\n", "ox ape ox"),
    "words": ("txt", "a.jpg grey ox\nb.jpg ape\nc.png grey ox\n", "grey ox|ape|grey ox"),
    "windows": ("txt", ".\\cat\\a.jpg\tox\r\ndog\\b.jpg\tape\r\n\r\ndog\\c.png\tox\r\n", "ox ape ox"),
    "byte order mark": ("csv", "\ufeffa.jpg,ox\nb.jpg,ape\nc.png,ox\n", "ox ape ox"),
    "kaggle": ("csv", "ImageId,PredictionString\na,n01440764 1 2 3 4 \nb,n01443537 5 6 7 8\nc,n01440764 1 1 1 1",
               "tench|goldfish|tench"),
    "one a line": ("txt", "ox\nape\nox\n", "ox ape ox"),
    "one a line with commas": ("txt", "ox, an old one\nape\nape\n", "ox, an old one|ape|ape"),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN)
def test_each_name_gets_its_label(tmp_path, case):
    suffix, text, expected = TAKEN[case]
    found = read_labels(given(tmp_path, text, suffix), NAMES)
    wanted = expected.split("|") if "|" in expected else expected.split()
    assert [found.classes[label] for label in found.labels] == wanted
    if "n0" not in text:
        assert found.classes == tuple(sorted(set(wanted)))
    assert f"{len(set(wanted))} classes from" in found.note


NUMBERS = {
    "plain": ("a.jpg,7\nb.jpg,-1\nc.png,0", None, [7, -1, 0], None),
    "one a line": ("7\n1\n1", None, [7, 1, 1], None),
    "imagenet": ("a.jpg,999\nb.jpg,-1\nc.png,0", "imagenet", [999, -1, 0], 1000),
    "ids in imagenet's order": ("a.jpg,n02012849\nb.jpg,n01440764\nc.png,n01440764", "imagenet", [134, 0, 0], 1000),
    "names in imagenet's order": ("a.jpg,crane bird\nb.jpg,tench\nc.png,tench", "imagenet", [134, 0, 0], 1000),
    "ids": ("a.jpg,n02012849\nb.jpg,n01440764\nc.png,n01440764", None, [1, 0, 0], 2),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_are_positions_and_ids_get_words(tmp_path, case):
    text, order, labels, n = NUMBERS[case]
    found = read_labels(given(tmp_path, text), NAMES, order)
    assert found.labels == labels
    assert (None if found.classes is None else len(found.classes)) == n


REFUSED = {
    "a name that is missing": ("csv", "a.jpg,ox\nb.jpg,ape\n", "no label for 1 of 3 samples, the first 'dog/c.png'"),
    "a name too many": ("csv", "a.jpg,ox\nb.jpg,ape\nc.png,ox\nd.png,ox", "the first d.png (line 4)"),
    "a name twice": ("csv", "a.jpg,ox\nb.jpg,ape\nc.png,ox\na.jpg,ox", "'a.jpg' on line 1 and again on line 4"),
    "other names": ("csv", "x.jpg,ox\ny.jpg,ape\nz.png,ox", "line 1 is 'x.jpg,ox', a sample is 'cat/a.jpg'"),
    "no label": ("csv", "a.jpg,ox\nb.jpg,\nc.png,ox", "has no label on line 2"),
    "one column": ("csv", "a.jpg,ox\nb.jpg\nc.png,ox", "Line 2 of"),
    "names alone": ("txt", "a.jpg\nb.jpg\nc.png", "None of the names"),
    "too few lines": ("txt", "ox\nape", "has 2 lines, the data set 3 samples"),
    "too many lines": ("txt", "ox\nape\nox\nape", "has 4 lines, the data set 3 samples"),
    "a blank line": ("txt", "ox\n\nape", "Line 2 of"),
    "two kinds": ("csv", "a.jpg,ox\nb.jpg,2\nc.png,ox", "'ox' on line 1, '2' on line 2"),
    "fractions": ("csv", "a.jpg,1.0\nb.jpg,2.0\nc.png,1.0", "has '1.0' on line 1"),
    "below -1": ("csv", "a.jpg,1\nb.jpg,-2\nc.png,1", "has the label -2 on line 2"),
    "unknown all": ("csv", "a.jpg,-1\nb.jpg,-1\nc.png,-1", "no label but -1"),
    "case": ("csv", "a.jpg,Ox\nb.jpg,ape\nc.png,ox", "differ in case alone"),
    "ILSVRC's ids": ("csv", "a.jpg,1\nb.jpg,1000\nc.png,5", "ILSVRC's own ids"),
    "ILSVRC's ids a line": ("txt", "490\n361\n1000", "Give the devkit"),
    "several columns": ("csv", "file,label,class\na.jpg,1,ox\nb.jpg,2,ape\nc.png,1,ox", "--label-column"),
    "columns without header": ("csv", "a.jpg,1,ox\nb.jpg,2,ape\nc.png,1,ox", "3 columns and no header"),
    "json": ("txt", '{"a.jpg": "ox"}', "expected plain text"),
    "empty": ("txt", "\n\n", "is empty"),
    "a quote that does not end": ("csv", 'a.jpg,"ox\nb.jpg,ape\nc.png,ox', "no label for"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_match_is_refused_with_the_first(tmp_path, case):
    suffix, text, message = REFUSED[case]
    with pytest.raises(ValueError, match=r"\w") as raised:
        read_labels(given(tmp_path, text, suffix), NAMES)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_numbers_beyond_imagenet_and_other_names_are_refused(tmp_path):
    for text, message in (
        ("1\n1000\n2", "ILSVRC's own ids"),
        ("0\n1000\n2", "the label 1000"),
        ("unicorn\ntench\ntench", "'unicorn'"),
    ):
        with pytest.raises(ValueError, match=message):
            read_labels(given(tmp_path, text), NAMES, "imagenet")
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("490\n361\n171\n")
    with pytest.raises(ValueError, match="without the kit"):
        read_labels(tmp_path / "ILSVRC2012_validation_ground_truth.txt", NAMES)
    (tmp_path / "latin.csv").write_bytes(b"a.jpg,caf\xe9\n")
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_labels(tmp_path / "latin.csv", NAMES)
    with pytest.raises(FileNotFoundError, match="There is no text file"):
        read_labels(tmp_path / "missing.csv", NAMES)


def test_a_line_a_label_needs_names_that_sort_in_one_way(tmp_path):
    path = given(tmp_path, "\n".join(["ox"] * 6 + ["ape"] * 6))
    padded = [f"{i:02d}.png" for i in range(12)]
    assert read_labels(path, padded[::-1]).labels == [0] * 6 + [1] * 6
    with pytest.raises(ValueError, match=r"sort in two ways: '10\.png'"):
        read_labels(path, [f"{i}.png" for i in range(12)])
    with pytest.raises(ValueError, match="sort in two ways"):
        read_labels(given(tmp_path, "ox\nape"), ["a.png", "B.png"])
    with pytest.raises(ValueError, match="Every line of"):
        read_labels(given(tmp_path, "\n".join(f"word{i}" for i in range(30))), [f"{i:02d}.png" for i in range(30)])


def test_a_column_may_be_chosen_and_names_of_two_samples_are_refused(tmp_path):
    path = given(tmp_path, "file,label,class\na.jpg,1,ox\nb.jpg,2,ape\nc.png,1,ox", "csv")
    assert read_labels(path, NAMES, column="class").classes == ("ape", "ox")
    assert read_labels(path, NAMES, column="label").labels == [1, 2, 1]
    with pytest.raises(ValueError, match="has no column 'lable'; it has the columns file, label, class"):
        read_labels(path, NAMES, column="lable")
    twice = given(tmp_path, "a.jpg,ox\nb.jpg,ape", "csv")
    with pytest.raises(ValueError, match=r"no label for 2 of 3 samples, the first 'cat/a\.jpg'; .* no sample or"):
        read_labels(twice, ["cat/a.jpg", "dog/a.jpg", "b.jpg"])


def test_a_part_takes_the_labels_of_the_whole_and_says_so(tmp_path):
    path = given(tmp_path, "a.jpg,ox\nb.jpg,ape\nc.png,ox\nd.png,emu", "csv")
    found = read_labels(path, NAMES, is_part=True)
    assert [found.classes[label] for label in found.labels] == ["ox", "ape", "ox"]
    assert "1 names in it are not collected (d.png (line 4))" in found.note


def test_labels_in_a_dictionary():
    found = read_labels({"a.jpg": "ox", "dog/b": "ape", "c": "ox"}, ["a.jpg", "b.jpg", "c.png"])
    assert (found.labels, found.classes) == ([1, 0, 1], ("ape", "ox"))
    assert read_labels(dict(zip(NAMES, (3, 4, -1), strict=True)), NAMES).labels == [3, 4, -1]
    wrong = [({"cat/a.jpg": "ox"}, "lack 2 of 3"), ({**dict.fromkeys(NAMES, "ox"), "e": "ox"}, "the first 'e'"),
             (dict.fromkeys(NAMES, True), "got True"), (dict.fromkeys(NAMES, 1.5), "got 1.5")]  # fmt: skip
    for labels, message in wrong:
        with pytest.raises(ValueError, match=message):
            read_labels(labels, NAMES)
