"""Which column holds the labels of a Hugging Face data set, and what its values are."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from clip_lens_plugin.datasets.hub_dataset import HuggingFaceSource

datasets = pytest.importorskip("datasets")
ANIMALS = datasets.ClassLabel(names=["emu", "cat"])
INT, TEXT = datasets.Value("int64"), datasets.Value("string")


def data(**columns):
    """Two pictures, with columns of (type, values)."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    rows = {"image": [{"bytes": buffer.getvalue(), "path": None}] * 2}
    features = {"image": datasets.Image()} | {name: type_ for name, (type_, _) in columns.items()}
    rows |= {name: values for name, (_, values) in columns.items()}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def labels(source) -> list[int]:
    return [source.read(i).label for i in range(len(source))]


@pytest.mark.parametrize(
    ("columns", "wanted", "expected", "classes"),
    [
        ({"label": (ANIMALS, [1, 0])}, None, [1, 0], ("emu", "cat")),
        ({"kind": (ANIMALS, [1, None]), "label": (INT, [7, 8])}, None, [1, -1], ("emu", "cat")),
        ({"kind": (ANIMALS, [1, 0]), "label": (INT, [7, 8])}, "label", [7, 8], None),
        ({"labels": (INT, [4, -1])}, None, [4, -1], None),
        ({"fine_label": (datasets.Value("uint8"), [4, 9])}, None, [4, 9], None),
        ({"labels": (TEXT, ["owl", "ant"])}, None, [1, 0], ("ant", "owl")),
        ({"Category": (TEXT, ["owl", None])}, None, [0, -1], ("owl",)),
        ({"species": (TEXT, ["owl", "ant"])}, "species", [1, 0], ("ant", "owl")),
        ({"species": (TEXT, ["owl", "ant"])}, None, [-1, -1], None),
        ({"label": (TEXT, ["n01443537", "n01440764"])}, None, [1, 0], ("tench", "goldfish")),
        ({"label": (datasets.ClassLabel(names=["n01443537", "ox"]), [0, 1])}, None, [0, 1], ("goldfish", "ox")),
    ],
)
def test_the_column_and_its_labels(columns, wanted, expected, classes):
    source = HuggingFaceSource(data(**columns), label_column=wanted)
    assert labels(source) == expected
    assert source.classes == classes
    (note,) = source.label_notes
    used = "no labels" if set(expected) == {-1} else f"the column {wanted or next(iter(columns))}"
    assert used in note


@pytest.mark.parametrize(
    ("columns", "wanted", "message"),
    [
        ({"fine_label": (ANIMALS, [1, 0]), "coarse_label": (ANIMALS, [1, 0])}, None, "--label-column fine_label"),
        ({"label": (INT, [1, 0]), "class_name": (TEXT, ["a", "b"])}, None, "several label columns"),
        ({"labels": (datasets.Sequence(ANIMALS), [[1], [0, 1]])}, None, "no single label per sample"),
        ({"tags": (datasets.Sequence(ANIMALS), [[1], [0, 1]])}, None, "'tags' is of type"),
        ({"label": (datasets.Value("bool"), [True, False])}, None, "is of type bool"),
        ({"label": (datasets.Value("float32"), [1.0, 0.0])}, None, "is of type float32"),
        ({"score": (datasets.Value("float32"), [1.0, 0.0])}, "score", "is of type float32"),
        ({"label": (INT, [1, 0])}, "lable", "no label column 'lable'"),
    ],
)
def test_what_gives_no_single_label_is_refused_by_name(columns, wanted, message):
    with pytest.raises(ValueError, match=r"label_column=|columns are") as raised:
        HuggingFaceSource(data(**columns), label_column=wanted)
    assert message in str(raised.value)


def test_a_label_beyond_the_classes_is_refused():
    for value in (2, -2):
        source = HuggingFaceSource(data(label=(INT, [value, 0])))
        if value < -1:
            with pytest.raises(ValueError, match="is -2; expected -1"):
                source.read(0)
        else:
            assert source.read(0).label == value


def test_labels_may_be_left_out():
    two = data(fine_label=(ANIMALS, [1, 0]), coarse_label=(ANIMALS, [1, 0]))
    assert labels(HuggingFaceSource(two, labelled=False)) == [-1, -1]
