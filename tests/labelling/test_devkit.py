"""ImageNet's flat validation folder with its development kit, built as ILSVRC 2012's is."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.labelling.devkit import META, TRUTH

LEAVES = {1: "n02119789", 2: "n02100735", 3: "n02110185", 4: "n01440764"}  # ILSVRC's numbers 1 to 3 are its own.
POSITIONS = {1: 278, 2: 212, 3: 250, 4: 0}  # of kit fox, English setter, Siberian husky, tench
TRUTHS = [4, 1, 3, 2, 1]


def meta(leaves: dict[int, str], **changed) -> bytes:
    """``synsets`` as in the kit: a column of structs, leaves first, a class above them last."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
              "num_train_images")  # fmt: skip
    rows = [(number, name, "a, b", "a thing", 0, np.zeros(0), 0, 1300) for number, name in leaves.items()]
    rows.append((len(leaves) + 1, "n00001740", "entity", "all", 2, np.array([1, 2]), 9, 0))
    synsets = np.zeros((len(rows), 1), dtype=[(name, object) for name in fields])
    for i, row in enumerate(rows):
        for name, value in zip(fields, row, strict=True):
            synsets[name][i, 0] = changed.get(name, value) if i == 0 else value
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": synsets}, do_compression=True)
    return buffer.getvalue()


def devkit(folder, truths=TRUTHS, table: bytes | None = None):
    (folder / "data").mkdir(parents=True)
    (folder / "data" / TRUTH).write_text("".join(f"{each}\n" for each in truths))
    (folder / "data" / META).write_bytes(meta(LEAVES) if table is None else table)
    return folder


@pytest.fixture
def flat(tmp_path):
    """Images 1, 2, 4 and 5 of the validation set."""
    (tmp_path / "val").mkdir()
    for number in (1, 2, 4, 5):
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", "JPEG")
    return tmp_path / "val"


@pytest.mark.parametrize("form", ["folder", "its data", "around it", "tar", "tar.gz"])
def test_each_image_gets_imagenets_class(tmp_path, flat, form):
    kit = devkit(tmp_path / "kits" / "ILSVRC2012_devkit_t12")
    if form.startswith("tar"):
        path = tmp_path / f"devkit.{form}"
        with tarfile.open(path, "w:gz" if form == "tar.gz" else "w") as tar:
            tar.add(kit, "ILSVRC2012_devkit_t12")
    else:
        path = {"folder": kit, "its data": kit / "data", "around it": kit.parent}[form]
    source = as_source(flat, labels=path)
    assert len(source.classes) == 1000
    assert [source.read(i).label for i in range(4)] == [POSITIONS[TRUTHS[n - 1]] for n in (1, 2, 4, 5)]
    assert source.classes[POSITIONS[1]] == "kit fox"
    assert "1,000 classes from ImageNet's devkit" in source.label_notes[0]
    assert source.fingerprint() != as_source(flat).fingerprint()


WRONG = {
    "another number": ({"truths": [4, 1, 3, 7, 1]}, "Line 4 of"),
    "the number of a class above": ({"truths": [5, 1, 3, 2, 1]}, "Line 1 of"),
    "a blank line": ({"truths": [4, "", 3, 2, 1]}, "Line 2 of"),
    "too few": ({"truths": [4, 1, 3]}, "'ILSVRC2012_val_00000004.JPEG' is none of the devkit's 3"),
    "no labels": ({"truths": []}, "is empty"),
    "no mat file": ({"table": b"no MATLAB file " * 20}, "is damaged or not"),
    "cut off": ({"table": meta(LEAVES)[:300]}, "is damaged or not"),
    "a number of a kind": ({"table": meta(LEAVES, ILSVRC2012_ID=1.5)}, "is damaged or not"),
    "a foreign id": ({"table": meta(LEAVES, WNID="n99999999")}, "'n99999999' is none of ImageNet's"),
    "an id twice": ({"table": meta(LEAVES, WNID="n01440764")}, "twice"),
    "a number twice": ({"table": meta(LEAVES, ILSVRC2012_ID=2)}, "twice"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_kit_that_is_not_the_kit_is_refused(tmp_path, flat, case):
    changed, message = WRONG[case]
    with pytest.raises(ValueError, match=r"\w") as raised:
        as_source(flat, labels=devkit(tmp_path / "kit", **changed))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_other_folders_tars_and_names_are_refused(tmp_path, flat):
    kit = devkit(tmp_path / "kit")
    for wrong in (flat, tmp_path / "other.tar.gz", tmp_path / "broken.tar"):
        if wrong.suffix == ".gz":
            with tarfile.open(wrong, "w:gz") as tar:
                tar.add(kit / "data" / TRUTH, "data/" + TRUTH)
        elif wrong.suffix == ".tar":
            wrong.write_bytes(b"no tar file")
        with pytest.raises((ValueError, FileNotFoundError), match=r"is no devkit|no tar file"):
            as_source(flat, labels=wrong)
    with pytest.raises(ValueError, match="ILSVRC's own ids"):
        as_source(flat, labels=kit / "data" / TRUTH)
    Image.new("RGB", (8, 8)).save(flat / "other.png")
    with pytest.raises(ValueError, match=r"'other\.png' is none of the devkit's 5 validation images"):
        as_source(flat, labels=kit)


def test_a_table_that_unpacks_to_too_much_is_refused(tmp_path, flat, monkeypatch):
    monkeypatch.setattr("clip_lens_plugin.labelling.devkit.MOST_BYTES", 4000)
    big = io.BytesIO()
    scipy.io.savemat(big, {"synsets": np.zeros(100_000)}, do_compression=True)
    assert len(big.getvalue()) < 4000
    with pytest.raises(ValueError, match=r"unpacks to more than 4,000 bytes"):
        as_source(flat, labels=devkit(tmp_path / "kit", table=big.getvalue()))
