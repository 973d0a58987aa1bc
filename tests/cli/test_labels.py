"""What commands take for a class, and labels that come with the store or after it."""

from __future__ import annotations

import pandas as pd
import pytest
from PIL import Image

from clip_lens_plugin import HookedCLIP, ZeroShotClassifier, mean_ablation_curve
from clip_lens_plugin.cli.given.classes import chosen_classes
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.labelling.wordnet import imagenet_ids, imagenet_names

pytestmark = pytest.mark.slow

PLAIN = ["a red background", "a blue background"]


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """Four pictures and one that is broken, and the store of the flat folder."""
    folder = tmp_path_factory.mktemp("flat") / "pictures"
    folder.mkdir()
    for i, colour in enumerate(("red", "blue", "red", "blue")):
        Image.new("RGB", (60, 60), colour).save(folder / f"{i}.png")
    (folder / "4.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def store(flat, tmp_path_factory, scenes_model):
    from clip_lens_plugin.collection import collect

    out = tmp_path_factory.mktemp("store") / "store"
    return collect(scenes_model, flat, out, "contributions", progress=False)


def written(path, text: str):
    path.write_text(text)
    return path


def test_class_folders_and_what_is_left_out_are_said_before_the_run(tmp_path, run, scenes_model, flat):
    for name in ("train/cat/1", "train/dog/1", "test/cat/2", "x", ".ipynb_checkpoints/1"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 60)).save(tmp_path / "data" / f"{name}.png")
    result = run("collect", tmp_path / "data", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert lines[0] == "2 classes from the folders in test and train: cat, dog"
    assert "splits and no classes" in lines[1]
    assert "1 image lies outside of the class folders" in lines[2]
    assert ".ipynb_checkpoints" in lines[3]
    assert "1 of them have no label" in result.stderr
    found = ContributionStore.open(tmp_path / "out", scenes_model)
    assert found.classes == ("cat", "dog")
    assert dict(zip(found.names, found.labels.tolist(), strict=True)) == {
        "test/cat/2.png": 0, "train/cat/1.png": 0, "train/dog/1.png": 1, "x.png": -1}  # fmt: skip


def test_labels_come_with_the_collection(tmp_path, run, scenes_model, flat):
    labels = written(tmp_path / "labels.csv", "".join(f"{i}.png,{PLAIN[i % 2]}\n" for i in range(5)))
    result = run("collect", flat, "--out", tmp_path / "out", "--labels", labels)
    assert f"2 classes from {labels}: a blue background, a red background" in result.stderr
    found = ContributionStore.open(tmp_path / "out", scenes_model)
    assert [found.classes[label] for label in found.labels] == PLAIN * 2


@pytest.mark.parametrize("by_name", [True, False])
def test_labels_come_later_by_name_or_a_line_each(tmp_path, run, flat, store, by_name):
    lines = [f"{f'{i}.png,' if by_name else ''}{PLAIN[i % 2]}" for i in range(5)]
    labels = written(tmp_path / "labels.txt", "\n".join(lines[::-1] if by_name else lines))
    result = run("ablate", store._place, "--out", tmp_path / "out", "--labels", labels)
    assert result.exit_code == 0, (result.stderr, result.exception)
    table = pd.read_csv(tmp_path / "out" / "zero_shot.csv")
    assert dict(zip(table["class"], table["n"], strict=True)) == dict.fromkeys(sorted(PLAIN), 2)
    assert (table["top1"] == 1).all()


def test_labels_that_do_not_match_are_one_line(tmp_path, refused, flat, store):
    some = written(tmp_path / "some.csv", "0.png,a\n1.png,b\n")
    out = ("--out", tmp_path / "out")
    assert "no label for 3 of 5 samples, the first '2.png'" in refused("collect", flat, *out, "--labels", some)
    assert "the first '2.png'" in refused("ablate", store._place, *out, "--labels", some)
    assert "is no devkit" in refused("collect", flat, *out, "--labels", flat)
    assert "has no columns" in refused("collect", flat, *out, "--label-column", "label")
    assert "give that too" in refused("collect", flat, *out, "--label-order", "imagenet")
    assert "--attribute" in refused("collect", *out, "--labels", some)
    assert "--labels FILE" in refused("ablate", store._place, *out)
    assert not (tmp_path / "out" / "zarr.json").exists()


def test_class_files_are_compared_by_name(tmp_path):
    own = ("grey_cat", "dog", "n01440764")
    other = chosen_classes(str(written(tmp_path / "a", "Dog\n\ntench\nGrey cat\n")), own)
    assert other.names == ["Grey cat", "Dog", "tench"]
    assert "put in the order of the data set's" in other.note
    stated = chosen_classes(str(written(tmp_path / "b", "dog\ta hound\ntench\ta fish\n\ngrey_cat\ta puss\n")), own)
    assert stated.names == ["a puss", "a hound", "a fish"]
    assert chosen_classes(None, own).names == ["grey cat", "dog", "n01440764"]
    by_number = chosen_classes(str(written(tmp_path / "c", "1\tone\n0\tzero\n")), None)
    assert by_number.names == ["zero", "one"]
    listed = chosen_classes(str(written(tmp_path / "d", "zero\none\n\n")), None)
    assert listed.names == ["zero", "one"]
    assert "0 is line 1" in listed.note


@pytest.mark.parametrize(
    ("text", "own", "message"),
    [
        ("hound\ncat", ("dog", "cat"), "no class hound, and the file none of dog"),
        ("cat\nemu\ndog", ("dog", "cat"), "has 3 classes, the data set 2; only there: emu"),
        ("cat", ("dog", "cat"), "not in the file: dog"),
        ("dog\ta hound\nemu\ta bird", ("dog", "cat"), "no class emu"),
        ("dog\ta hound\ncat", ("dog", "cat"), "Line 2 of"),
        ("dog\ta beast\ncat\ta beast", ("dog", "cat"), "'a beast' more than once"),
        ("dog\ncat\ndog", ("dog", "cat"), "'dog' more than once"),
        ("dog\n\ncat", None, "Line 2 of"),
        ("dog\ta hound", None, "a number from 0 to 0"),
        ("", ("dog", "cat"), "is empty"),
    ],
)
def test_other_names_and_numbers_of_classes_are_refused(tmp_path, text, own, message):
    with pytest.raises(ValueError, match=r"\w") as raised:
        chosen_classes(str(written(tmp_path / "classes.txt", text)), own)
    assert message in str(raised.value)


def test_imagenets_classes_are_compared_by_name():
    names = list(imagenet_names())
    for own in (names, list(imagenet_ids()), ["Tench", *names[1:]]):
        assert chosen_classes("imagenet", own).positions is None
    spelt = [*names[:7], "a cock", *names[8:]]
    assert "1 are spelt otherwise and taken by their place: a cock" in chosen_classes("imagenet", spelt).note
    moved = chosen_classes("imagenet", sorted(names))
    assert [names[i] for i in moved.positions] == sorted(names)
    for own, message in (
        (sorted(spelt), "not ImageNet's, the first of 1 is a cock"),
        ([f"thing {i}" for i in range(1000)], "first of 1000 is thing 0"),
        (["dog", "tench"], "has 1000 classes, the data set 2; of these ImageNet has no dog"),
    ):
        with pytest.raises(ValueError, match=message):
            chosen_classes("imagenet", own)


def test_a_classifier_of_other_classes_than_a_stores_is_refused(scenes_model: HookedCLIP, opened: ContributionStore):
    own = list(opened.classes)
    words = [f"what is {name}" for name in own]
    base = mean_ablation_curve(opened, ZeroShotClassifier.from_labels(scenes_model, own))["accuracy"][0]
    more = ZeroShotClassifier.from_labels(scenes_model, [*own, "a dog"])
    assert mean_ablation_curve(opened, more)["accuracy"][0] <= base
    mean_ablation_curve(opened, ZeroShotClassifier.from_labels(scenes_model, words))
    turned = ZeroShotClassifier.from_labels(scenes_model, own[::-1])
    for classifier, message in (
        (turned, "stand in another order"),
        (ZeroShotClassifier.from_labels(scenes_model, ["a dog", *own]), "stand in another order"),
        (ZeroShotClassifier.from_labels(scenes_model, own[:-1]), "has 5 classes, the store's are 6"),
        (ZeroShotClassifier.from_labels(scenes_model, [*words, "a dog"]), "has 7 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            mean_ablation_curve(opened, classifier)
    back = len(own) - 1 - opened.labels
    assert mean_ablation_curve(opened, turned, back)["accuracy"][0] == pytest.approx(base)


def test_wordnet_ids_are_read_as_their_words(scenes_model: HookedCLIP):
    one, other = (ZeroShotClassifier.from_labels(scenes_model, [name]) for name in ("n01440764", "tench"))
    assert one.names == ("n01440764",)
    assert bool((one.embeddings == other.embeddings).all())
