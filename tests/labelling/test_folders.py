"""Which folders are classes: splits, strays, what lies deeper, hidden folders, WordNet ids."""

from __future__ import annotations

import pytest
from PIL import Image

from clip_lens_plugin.datasets.folder import FolderSource
from clip_lens_plugin.datasets.image_folder import ImageFolderError
from clip_lens_plugin.datasets.source import fingerprint_of
from clip_lens_plugin.labelling.folders import folder_classes


def files(*folders: str, n: int = 2) -> list[str]:
    return [f"{folder}/{i}.png".lstrip("/") for folder in folders for i in range(n)]


CLASSES = {
    "plain": (files("dog", "cat"), "dog cat", None),
    "deeper": (files("dog", "cat/day", "cat"), "dog cat cat", "cat/day"),
    "groups": (files("pets/dog", "pets/cat", "wild/emu"), "pets pets wild", "pets/cat"),
    "same depth below": (files("dog/a", "dog/b", "cat/a", "cat/b"), "dog dog cat cat", "dog/a"),
    "in one folder": (files("images/dog", "images/cat"), "dog cat", None),
    "in several": (files("ILSVRC/Data/CLS-LOC/val/n2", "ILSVRC/Data/CLS-LOC/val/n1"), "n2 n1", None),
    "one split": (files("train/dog", "train/cat"), "dog cat", None),
    "splits": (files("train/dog", "train/cat", "val/dog", "val/cat"), "dog cat dog cat", "train and val are splits"),
    "splits deeper": (files("train/dog", "train/cat/day", "test/cat"), "dog cat cat", "cat/day"),
    "split with images": (files("train/images/dog", "test/images/cat"), "dog cat", "splits"),
    "splits in a folder": (files("data/Train/dog", "data/Test/cat", "data/VALID/cat"), "dog cat cat", "Train"),
    "named splits": (files("seg_train/sea", "seg_test/ice"), "sea ice", "seg_train"),
    "flat test": (files("train/dog", "train/cat") + files("test"), "dog cat -", "2 images lie outside"),
    "stray": ([*files("dog", "cat"), "x.png"], "dog cat", "1 image lies outside of the class folders"),
    "stray in a folder": ([*files("all/dog", "all/cat"), "all/x.png"], "dog cat", "all/x.png"),
    "a train on rails": (files("bus", "train"), "bus train", None),
    "two trains": (files("bullet_train", "steam_train"), "bullet_train steam_train", None),
    "a testing word": (files("testament", "validated"), "testament validated", None),
}


@pytest.mark.parametrize("case", CLASSES)
def test_the_classes_of_a_layout(case):
    paths, expected, note = CLASSES[case]
    found = folder_classes(paths)
    folders = [None if each == "-" else each for each in expected.split() for _ in range(2)]
    folders += [None] * (len(paths) - len(folders))
    assert list(found.folders) == folders
    assert found.names == tuple(sorted({each for each in folders if each}))
    assert [None if i < 0 else found.names[i] for i in found.labels] == folders
    if note is None:
        assert not found.notes
    else:
        assert note in " ".join(found.notes)


NONE = {
    "flat": (files(""), "two or more folders"),
    "one class": (files("cat"), "two or more folders"),
    "flat splits": (files("train", "val"), "train and val are splits"),
    "numbered splits": (files("train2017", "val2017"), "train2017 and val2017 are splits"),
    "splits of images": (files("train/images", "val/images"), "hold no class folders"),
    "folds": (files("fold1", "fold2", "fold3"), "fold1, fold2 and fold3 are splits"),
    "a test set beside classes": (files("cat", "dog", "test"), "test may be a split or a class beside cat, dog"),
    "splits beside another": (files("train/cat", "test/cat", "extra"), "test and train may be a split"),
    "a train of classes": (files("train/cat", "train/dog", "extra"), "train may be a split or a class beside extra"),
    "mostly outside": (files("", n=9) + files("crops", "masks"), "9 of 13 lie outside"),
}


@pytest.mark.parametrize("case", NONE)
def test_where_it_is_not_plain_there_are_no_labels_and_it_is_said(case):
    paths, why = NONE[case]
    found = folder_classes(paths)
    assert set(found.labels) == {-1}
    assert not found.names
    (note,) = found.notes_with(())
    assert why in note
    assert "--labels FILE" in note


def write(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / path)
    return folder


def test_hidden_folders_shift_no_label_and_are_said(tmp_path):
    plain = FolderSource(write(tmp_path / "plain", "cat/1.png", "dog/1.png"))
    hidden = (".ipynb_checkpoints", "cat/.ipynb_checkpoints", "__MACOSX/cat", "@eaDir", ".git", "dog/@eaDir")
    folder = write(tmp_path / "with", "cat/1.png", "dog/1.png", *(f"{each}/1.png" for each in hidden))
    source = FolderSource(folder)
    assert source.classes == ("cat", "dog")
    assert [(source.name(i), source.read(i).label) for i in range(len(source))] == [("cat/1.png", 0), ("dog/1.png", 1)]
    assert source.fingerprint() == plain.fingerprint()
    assert "2 classes from the folders: cat, dog" in source.label_notes
    assert "hidden folders are left out: .git, .ipynb_checkpoints, @eaDir" in " ".join(source.label_notes)
    with pytest.raises(ImageFolderError, match=r"Hidden folders are left out \(\.cache\)"):
        FolderSource(write(tmp_path / "nothing", ".cache/1.png"))


def test_wordnet_ids_get_their_words_and_the_fingerprint_is_that_of_the_folders(tmp_path):
    paths = ["n01440764/1.png", "n02012849/1.png", "n03126707/1.png", "n99999999/1.png", "n02085620-Chihuahua/1.png"]
    source = FolderSource(write(tmp_path, *paths))
    assert source.classes == ("tench", "crane bird", "Chihuahua", "construction crane", "n99999999")
    folders = tuple(sorted(path.split("/")[0] for path in paths))
    sizes = [(f"{each}/1.png", (tmp_path / each / "1.png").stat().st_size) for each in folders]
    assert source.fingerprint() == fingerprint_of("folder", folders, sizes)
    assert "5 classes from the folders: tench, crane bird" in source.label_notes[0]
