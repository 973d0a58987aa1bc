"""Every kind of data set gives the same pictures, labels and refusals, whatever order its files were made in."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset
from torchvision.datasets import ImageFolder

from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.datasets.image_folder import UnreadableImageError

CLASSES = ("cat", "dog", "emu")
BROKEN = b"\xff\xd8\xff\xe0 no picture"


def jpeg(red: int, turned: bool = False) -> bytes:
    """40 x 20 pixels of one red; or the same lying on its side with an EXIF note to turn it."""
    picture = Image.new("RGB", (20, 40) if turned else (40, 20), (red, 10, 10))
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif, quality=95)
    return buffer.getvalue()


FILES = {
    "cat/a.jpg": jpeg(50),
    "cat/b.jpg": jpeg(90, turned=True),
    "dog/c.jpg": jpeg(130),
    "dog/d.jpg": BROKEN,
    "emu/e.jpg": jpeg(210),
}


def write(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(FILES[name])
    return folder


def write_shards(folder: Path) -> Path:
    folder.mkdir()
    for number, part in enumerate(([*FILES][:3], [*FILES][3:])):
        with tarfile.open(folder / f"shard-{number}.tar", "w") as tar:
            for name in part:
                label = CLASSES.index(name.split("/")[0])
                key = name.split("/")[1].removesuffix(".jpg")
                about = {"cls": str(label).encode()} if number else {"json": json.dumps({"label": label}).encode()}
                for suffix, data in {"jpg": FILES[name], **about}.items():
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return folder


def hugging_face(folder: Path):
    datasets = pytest.importorskip("datasets")
    rows = {
        "image": [{"bytes": data, "path": None} for data in FILES.values()],
        "label": [CLASSES.index(name.split("/")[0]) for name in FILES],
    }
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    return datasets.Dataset.from_dict(rows, features=features)


KINDS = {
    "folder": lambda tmp: write(tmp / "f", list(FILES)),
    "torchvision": lambda tmp: ImageFolder(write(tmp / "t", list(FILES))),
    "subset": lambda tmp: Subset(ImageFolder(write(tmp / "s", list(FILES))), range(5)),
    "shards": lambda tmp: write_shards(tmp / "w"),
    "braces": lambda tmp: str(write_shards(tmp / "w") / "shard-{0..1}.tar"),
    "hugging_face": hugging_face,
}


@pytest.fixture(params=KINDS)
def source(request, tmp_path):
    return as_source(KINDS[request.param](tmp_path))


def test_pictures_are_upright_and_labels_are_theirs(source):
    assert len(source) == 5
    assert len({source.name(i) for i in range(5)}) == 5
    for i, red, label in ((0, 50, 0), (1, 90, 0), (2, 130, 1), (4, 210, 2)):
        sample = source.read(i)
        assert sample.label == label
        assert sample.image.mode == "RGB"
        assert sample.image.size == (40, 20)
        assert abs(int(np.asarray(sample.image)[10, 20, 0]) - red) < 4
    if source.classes is not None:
        assert source.classes == CLASSES


def test_a_broken_picture_is_unreadable_with_a_reason(source):
    with pytest.raises(UnreadableImageError, match=r"\w+"):
        source.read(3)


def test_it_can_be_pickled_and_keeps_its_fingerprint(source):
    copied = pickle.loads(pickle.dumps(source))
    assert copied.fingerprint() == source.fingerprint()
    assert copied.name(4) == source.name(4)
    assert copied.read(4).label == source.read(4).label


def test_labels_do_not_depend_on_the_order_in_which_files_were_made(tmp_path):
    one = as_source(write(tmp_path / "one", list(FILES)))
    other = as_source(write(tmp_path / "other", list(FILES)[::-1]))
    readable = [i for i in range(5) if i != 3]
    labels = [{each.name(i): each.read(i).label for i in readable} for each in (one, other)]
    assert labels[0] == labels[1]
    assert one.fingerprint() == other.fingerprint()
    (tmp_path / "other" / "emu" / "f.jpg").write_bytes(jpeg(1))
    assert as_source(tmp_path / "other").fingerprint() != one.fingerprint()


class Items(Dataset):
    def __init__(self, items) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def test_tensors_and_unlabelled_items_are_taken_as_they_are():
    tensor = torch.rand(3, 8, 8)
    source = as_source(Items([(tensor, torch.tensor(4)), tensor]))
    assert torch.equal(source.read(0).image, tensor)
    assert (source.read(0).label, source.read(1).label) == (4, -1)


def test_wrong_items_are_mistakes_and_not_skipped():
    picture = Image.new("RGB", (4, 4))
    wrong = [{"image": picture}, (torch.zeros(3, 4, 4, dtype=torch.uint8), 0), (torch.rand(4, 4), 0), (picture, "cat")]
    for item in wrong:
        with pytest.raises(ValueError, match=r".") as raised:
            as_source(Items([item])).read(0)
        assert not isinstance(raised.value, UnreadableImageError)


def test_streams_and_other_things_are_refused(tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(())

    for given in (Stream(), 7, {"train": 1}):
        with pytest.raises((TypeError, ValueError), match=r"\w+"):
            as_source(given)
    with pytest.raises((ValueError, FileNotFoundError), match="nowhere"):
        as_source(tmp_path / "nowhere")
    with pytest.raises((ValueError, FileNotFoundError), match="gone"):
        as_source(str(tmp_path / "gone-{0..1}.tar"))


def test_a_shard_that_is_cut_off_is_refused_by_name(tmp_path):
    folder = write_shards(tmp_path / "w")
    whole = (folder / "shard-1.tar").read_bytes()
    (folder / "shard-1.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ValueError, match=r"shard-1\.tar"):
        as_source(folder)
