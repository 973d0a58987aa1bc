"""ImageNet-Segmentation's file, in the layout of the one that is distributed, written here by h5py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clip_lens_plugin.segmentation import ImageNetSegmentation

h5py = pytest.importorskip("h5py")

IDS = ["n02085620_7", "n01440764_12", "n02012849_3"]
RNG = np.random.default_rng(2)
PIXELS = [RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((5, 8), (6, 4), (7, 7))]
MASKS = [(RNG.random(each.shape[:2]) < 0.5).astype(np.uint8) for each in PIXELS]


def written(path: Path, masks=MASKS, pixels=PIXELS, names=("id", "target"), targets=None) -> Path:
    """A file of HDF5 behind 512 bytes of MATLAB's own, with references to what lies in /#refs#."""
    targets = [each.split("_")[0] for each in IDS] if targets is None else targets
    with h5py.File(path, "w", userblock_size=512) as file:
        refs, value = file.create_group("#refs#"), file.create_group("value")

        def kept(array, n=[0]):  # noqa: B006
            n[0] += 1
            return refs.create_dataset(f"r{n[0]}", data=array).ref

        def column(name, references):
            held = value.create_dataset(name, (len(references), 1), dtype=h5py.ref_dtype)
            for i, each in enumerate(references):
                held[i, 0] = each

        column("img", [kept(each.transpose(2, 1, 0)) for each in pixels])
        lists = []
        for each in masks:  # the first of two is the one that is taken
            both = np.array([[kept(each.T), kept(1 - each.T)]], dtype=h5py.ref_dtype).T
            lists.append(kept(both.astype(h5py.ref_dtype)))
        column("gt", lists)
        for name, texts in (("id", IDS), ("target", targets)):
            if name in names:
                column(name, [kept(np.frombuffer(each.encode("utf-16-le"), "<u2")[:, None]) for each in texts])
    return path


@pytest.mark.parametrize("names", [("id", "target"), ("id",)], ids=["both", "names alone"])
def test_pictures_masks_and_words_are_those_of_the_file(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = ImageNetSegmentation(written(tmp_path / "gtsegs_ijcv.mat", names=names))
    assert len(found) == 3
    assert found.title == "3 images of gtsegs_ijcv.mat"
    assert sorted(found.texts) == ["Chihuahua", "crane bird", "tench"]
    assert [image.name for image in found] == IDS
    assert [image.text for image in found] == ["Chihuahua", "tench", "crane bird"]
    for image, pixels, mask in zip(found, PIXELS, MASKS, strict=True):
        assert np.array_equal(np.asarray(image.picture), pixels)
        assert np.array_equal(image.mask, mask.astype(bool))


def test_classes_may_be_called_otherwise(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("n02085620,a small dog\nn02012849 the bird, crane\n")
    found = ImageNetSegmentation(written(tmp_path / "gtsegs_ijcv.mat"), tmp_path / "names.txt")
    assert [image.text for image in found] == ["a small dog", "tench", "the bird, crane"]
    (tmp_path / "names.txt").write_text("n02085620,a dog\nn02085620,a cat\n")
    with pytest.raises(ValueError, match="names n02085620 again on line 2"):
        ImageNetSegmentation(tmp_path / "gtsegs_ijcv.mat", tmp_path / "names.txt")
    (tmp_path / "names.txt").write_text("dog,n02085620\n")
    with pytest.raises(ValueError, match="expected an id and its text"):
        ImageNetSegmentation(tmp_path / "gtsegs_ijcv.mat", tmp_path / "names.txt")


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file"):
        ImageNetSegmentation(tmp_path / "missing.mat")
    (tmp_path / "old.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(ValueError, match="no HDF5 file"):
        ImageNetSegmentation(tmp_path / "old.mat")
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["value/img"] = np.zeros((3, 1))
    with pytest.raises(ValueError, match="holds no references in /value/img"):
        ImageNetSegmentation(tmp_path / "other.mat")
    with h5py.File(tmp_path / "linked.mat", "w") as file:
        file["value"] = h5py.ExternalLink(str(written(tmp_path / "whole.mat")), "/value")
    with pytest.raises(ValueError, match="no /value/img of its own"):
        ImageNetSegmentation(tmp_path / "linked.mat")
    strange = written(tmp_path / "strange.mat", targets=["dog", "n01440764", "n02012849"])
    with pytest.raises(ValueError, match=r"1 of 3 images no WordNet id.*'dog'"):
        ImageNetSegmentation(strange)


def test_masks_and_pixels_of_another_kind_are_named(tmp_path: Path) -> None:
    grey = ImageNetSegmentation(written(tmp_path / "grey.mat", masks=[MASKS[0] * 3, *MASKS[1:]]))
    assert grey[1].name == IDS[1]
    with pytest.raises(ValueError, match=r"mask of n02085620_7 holds 0, 3, expected 0 and 1"):
        grey[0]
    wide = ImageNetSegmentation(written(tmp_path / "wide.mat", pixels=[PIXELS[0].astype(np.uint16), *PIXELS[1:]]))
    with pytest.raises(ValueError, match="image n02085620_7 is uint16"):
        wide[0]
    with pytest.raises(IndexError):
        wide[3]


def test_without_h5py_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "gtsegs_ijcv.mat")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ValueError, match=r"clip_lens_plugin\[segmentation\]"):
        ImageNetSegmentation(path)
