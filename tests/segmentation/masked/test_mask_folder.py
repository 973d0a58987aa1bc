"""Folders of photographs with masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_lens_plugin.segmentation import MaskFolder
from clip_lens_plugin.segmentation.masked.mask_files import read_mask, read_value_names

VALUES = {
    "a": np.array([[0, 1, 1, 255], [0, 2, 2, 0]], dtype=np.uint8),
    "b": np.array([[2, 2, 7, 7], [0, 0, 0, 0]], dtype=np.uint8),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for each in ("images", "masks"):
        (tmp_path / each).mkdir()
    for name, values in VALUES.items():
        Image.new("RGB", (4, 2), "red").save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(values).save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "names.csv").write_text("value,name\n1,cat\n2,dog\n9,emu\n")
    return tmp_path


def two_values(folder: Path) -> None:
    for name, values in VALUES.items():
        Image.fromarray((values == 2).astype(np.uint8) * 255).save(folder / "masks" / f"{name}.png")


def test_each_named_value_of_a_mask_is_an_image_of_its_own(folder: Path) -> None:
    found = MaskFolder(folder, names=folder / "names.csv")
    assert found.title == f"2 photographs of {folder.name}, 3 masks of one text each"
    assert found.texts == ["cat", "dog", "emu"]
    assert [(image.name, image.text, image.group) for image in found] == [
        ("a.jpg, cat", "cat", "a.jpg"),
        ("a.jpg, dog", "dog", "a.jpg"),
        ("b.jpg, dog", "dog", "b.jpg"),
    ]
    cat, dog, other = found
    assert np.array_equal(cat.mask, VALUES["a"] == 1)
    assert np.array_equal(dog.mask, VALUES["a"] == 2)
    assert np.array_equal(dog.void, VALUES["a"] == 255)
    assert np.array_equal(other.mask, VALUES["b"] == 2)  # 7 has no name, and is background
    assert not other.void.any()
    chosen = MaskFolder(folder, names=folder / "names.csv", void=[1, 7])
    assert [image.text for image in chosen] == ["dog", "dog"]
    assert chosen.texts == ["dog", "emu"]  # what is left out is nothing to contrast with
    assert np.array_equal(chosen[1].void, VALUES["b"] == 7)
    named = folder / "all.csv"
    named.write_text("255: sky\n")
    assert [image.void for image in MaskFolder(folder, names=named)] == [None]  # 255 has a name, so it is none


def test_one_text_a_photograph_by_a_file_or_by_folders(folder: Path) -> None:
    two_values(folder)
    (folder / "texts.csv").write_text("name,text\nb.jpg,a dog\na.jpg,two dogs\n")
    found = MaskFolder(folder, texts=folder / "texts.csv")
    assert [(image.name, image.text) for image in found] == [("a.jpg", "two dogs"), ("b.jpg", "a dog")]
    assert found.texts == ["a dog", "two dogs"]
    assert np.array_equal(found[0].mask, VALUES["a"] == 2)
    for name, kind in (("a", "n02085620"), ("b", "sea_lion")):
        (folder / "images" / kind).mkdir()
        (folder / "images" / f"{name}.jpg").rename(folder / "images" / kind / f"{name}.jpg")
    found = MaskFolder(folder)
    assert [image.text for image in found] == ["Chihuahua", "sea lion"]
    assert np.array_equal(found[1].mask, VALUES["b"] == 2)
    (folder / "masks" / "sea_lion").mkdir()  # a mask of the same place goes before one of the same name
    Image.fromarray(np.ones((2, 4), dtype=np.uint8)).save(folder / "masks" / "sea_lion" / "b.png")
    assert MaskFolder(folder)[1].mask.all()


def test_masks_of_several_values_need_a_word_on_what_is_left_out(folder: Path) -> None:
    (folder / "texts.csv").write_text("a.jpg,cats\nb.jpg,dogs\n")
    with pytest.raises(ValueError, match=r"mask of a.jpg holds 0, 1, 2, 255.*void=\[255\]"):
        MaskFolder(folder, texts=folder / "texts.csv")[0]
    said = MaskFolder(folder, texts=folder / "texts.csv", void=[255])
    assert np.array_equal(said[0].mask, np.isin(VALUES["a"], [1, 2]))
    assert np.array_equal(said[0].void, VALUES["a"] == 255)


def test_what_is_missing_is_named_with_the_way_to_mend_it(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lie in no folder of a class, the first is a\.jpg"):
        MaskFolder(folder)
    with pytest.raises(ValueError, match="names= or texts="):
        MaskFolder(folder, names=folder / "names.csv", texts=folder / "names.csv")
    with pytest.raises(FileNotFoundError, match="has no folder 'images'"):
        MaskFolder(folder / "masks")
    Image.new("RGB", (4, 2)).save(folder / "masks" / "a.png")
    with pytest.raises(ValueError, match=r"mask .*a.png cannot be used: a picture of mode RGB"):
        MaskFolder(folder, names=folder / "names.csv")
    Image.fromarray(np.full((3, 3), 2, dtype=np.uint8)).save(folder / "masks" / "a.png")
    with pytest.raises(ValueError, match="has 3 x 3 pixels, the upright photograph 4 x 2"):
        MaskFolder(folder, names=folder / "names.csv")[0]
    (folder / "masks" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 photographs .* no mask: a.jpg. Expected masks/a.png"):
        MaskFolder(folder, names=folder / "names.csv")
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    Image.fromarray(VALUES["a"]).save(outside)
    (folder / "masks" / "a.png").symlink_to(outside)
    with pytest.raises(ValueError, match="a file inside the folder"):
        MaskFolder(folder, names=folder / "names.csv")
    (folder / "none.csv").write_text("77,gnu\n")
    (folder / "masks" / "a.png").unlink()
    Image.fromarray(VALUES["a"]).save(folder / "masks" / "a.png")
    with pytest.raises(ValueError, match="holds a value that has a name: gnu"):
        MaskFolder(folder, names=folder / "none.csv")


def test_values_of_every_kind_of_mask(tmp_path: Path) -> None:
    bits, deep, palette = (tmp_path / f"{name}.png" for name in ("bits", "deep", "palette"))
    Image.fromarray(np.array([[True, False]])).save(bits)
    Image.fromarray(np.array([[300, 0]], dtype=np.uint16)).save(deep)
    coloured = Image.fromarray(np.array([[5, 1]], dtype=np.uint8))
    coloured.putpalette([200] * 768)
    coloured.save(palette)
    assert [read_mask(each).tolist() for each in (bits, deep, palette)] == [[[1, 0]], [[300, 0]], [[5, 1]]]
    (tmp_path / "jpeg.png").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match=r"jpeg.png cannot be used"):
        read_mask(tmp_path / "jpeg.png")


@pytest.mark.parametrize("text", ["# of COCO\nclasses:\n  1: cat\n  17: 'sea lion'\n", "1\tcat\n17\tsea lion\n"])
def test_names_of_values_from_flat_yaml_and_tables(tmp_path: Path, text: str) -> None:
    (tmp_path / "names").write_text(text)
    assert read_value_names(tmp_path / "names") == {1: "cat", 17: "sea lion"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("1,cat\n1,dog\n", "value 1 again on line 2"), ("cat\n", "no line with a value"), ("1,cat\nx\n", "Line 2")],
)
def test_names_that_say_nothing_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_value_names(tmp_path / "names")
