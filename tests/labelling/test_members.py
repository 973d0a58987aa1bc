"""Labels in the members of shards, and of torch data sets."""

from __future__ import annotations

import io
import json
import tarfile
from types import SimpleNamespace

import pytest
from PIL import Image
from torch.utils.data import Dataset

from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.datasets.shards import ShardSource
from clip_lens_plugin.datasets.torch_dataset import TorchSource
from clip_lens_plugin.images.pictures import UnreadableImageError


def shard(folder, *labels: dict[str, object]):
    """A sample for each of the labels: suffix to content, objects as JSON."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    path = folder / "shard-0.tar"
    with tarfile.open(path, "w") as tar:
        for i, members in enumerate(labels):
            for suffix, content in {"png": buffer.getvalue(), **members}.items():
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                info = tarfile.TarInfo(f"{i:03d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def labels(source) -> list[int]:
    return [source.read(i).label for i in range(len(source))]


TAKEN = {
    "cls": ([{"cls": b"3"}, {"cls": b"-1"}], {}, [3, -1], None),
    "cls.txt": ([{"cls.txt": b"3\n"}, {"cls.txt": b"5"}], {}, [3, 5], None),
    "label": ([{"label": b"3"}, {}], {}, [3, -1], None),
    "names": ([{"cls": b"owl"}, {"cls": b"ant"}, {"cls": b"owl"}], {}, [1, 0, 1], ("ant", "owl")),
    "ids": ([{"cls.txt": b"n01443537"}, {"cls.txt": b"n01440764"}], {}, [1, 0], ("tench", "goldfish")),
    "names given": ([{"cls": b"owl"}, {"cls": b"ant"}], {"classes": ["owl", "ant"]}, [0, 1], ("owl", "ant")),
    "json": ([{"json": {"label": 3}}, {"json": {"cls": 5, "id": 7}}], {}, [3, 5], None),
    "json names": ([{"json": {"label": "owl"}}, {"json": {"label": "ant"}}], {}, [1, 0], ("ant", "owl")),
    "another key": ([{"json": {"class_id": 3, "url": "x"}}, {"json": {"class_id": 5}}], {}, [3, 5], None),
    "a key asked for": ([{"json": {"kind": 3, "label": 9}}, {"json": {}}], {"label_column": "kind"}, [3, -1], None),
    "a member asked for": ([{"kind.txt": b"3", "cls": b"9"}], {"label_column": "kind.txt"}, [3], None),
    "left out": ([{"json": {"label": [1, 2]}}], {"labelled": False}, [-1], None),
    "none": ([{"txt": b"a caption"}, {}], {}, [-1, -1], None),
    "no key": ([{"json": {"url": "x"}}], {}, [-1], None),
}


@pytest.mark.parametrize("case", TAKEN)
def test_labels_of_shards(tmp_path, case):
    members, options, expected, classes = TAKEN[case]
    source = ShardSource(shard(tmp_path, *members), **options)
    assert labels(source) == expected
    assert source.classes == classes
    (note,) = source.label_notes
    assert ("no labels" in note) == (set(expected) == {-1})


REFUSED = {
    "a list": ([{"json": {"label": [1, 2]}}], {}, "its label is '[1, 2]'"),
    "a fraction": ([{"cls": b"1.5"}], {}, "its label is '1.5'"),
    "blank": ([{"cls": b""}], {}, "its label is ''"),
    "true": ([{"json": {"label": True}}], {}, "its label is 'True'"),
    "two keys": ([{"json": {"class_id": 1, "category_id": 2}}], {}, "--label-column class_id"),
    "no such key": ([{"json": {"label": 1}}], {"label_column": "kind"}, "the .json members have the keys ['label']"),
    "no such member": ([{"cls": b"1"}], {"label_column": "kind"}, "the samples' members are .cls .png"),
    "both kinds": ([{"cls": b"owl"}, {"cls": b"4"}], {}, "names and whole numbers, as 4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_shards_whose_labels_are_not_plain_are_refused(tmp_path, case):
    members, options, message = REFUSED[case]
    with pytest.raises(ValueError, match=r"\w") as raised:
        ShardSource(shard(tmp_path, *members), **options)
    assert message in str(raised.value)


def test_one_sample_without_a_plain_label_is_listed_and_labels_beyond_the_classes_stop(tmp_path):
    source = ShardSource(shard(tmp_path, {"cls": b"1"}, {"cls": b"owl"}, {"cls": b"-7"}))
    assert source.read(0).label == 1
    for i in (1, 2):
        with pytest.raises(UnreadableImageError, match="its label is"):
            source.read(i)
    with pytest.raises(ValueError, match=r"is 1; expected -1 .* or 0 to 0"):
        ShardSource(shard(tmp_path, {"cls": b"1"}), classes=["owl"]).read(0)


def test_given_labels_go_before_a_sources_own(tmp_path):
    source = as_source(str(shard(tmp_path, {"json": {"label": [1, 2]}}, {})), labels={"000": "owl", "001": "ant"})
    assert (labels(source), source.classes) == ([1, 0], ("ant", "owl"))
    with pytest.raises(ValueError, match="has no columns"):
        as_source(TorchSource(Items([1])), label_column="label")
    with pytest.raises(ValueError, match="give labels as well"):
        as_source(TorchSource(Items([1])), label_order="imagenet")


class Items(Dataset):
    """A picture with each of the labels."""

    def __init__(self, labels, **attributes) -> None:
        self.labels = labels
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i):
        return Image.new("RGB", (8, 8)), self.labels[i]


@pytest.mark.parametrize(
    ("items", "expected", "classes"),
    [
        (Items(["owl", "ant", 1], classes=["owl", "ant"]), [0, 1, 1], ("owl", "ant")),
        (Items(["owl", 0], class_to_idx={"owl": 1, "ant": 0}), [1, 0], ("ant", "owl")),
        (Items([0, None], classes=["n01440764", "ox"]), [0, -1], ("tench", "ox")),
        (Items([1], classes=[("owl", "strix"), ("crane",)], class_to_idx={"crane": 7}), [1], None),
        (Items([4, -1]), [4, -1], None),
    ],
)
def test_labels_of_torch_data_sets(items, expected, classes):
    if classes is None and hasattr(items, "classes"):
        with pytest.raises(ValueError, match="classes and class_to_idx differ: 'crane' is number 1"):
            TorchSource(items)
        return
    source = TorchSource(items)
    assert (labels(source), source.classes) == (expected, classes)


@pytest.mark.parametrize("label", [True, 1.0, "owl", -2, 9, (1, 2), SimpleNamespace()])
def test_what_is_no_label_of_the_classes_is_refused(label):
    with pytest.raises(ValueError, match=r"expected .*-1") as raised:
        TorchSource(Items([label], classes=["ant"])).read(0)
    assert not isinstance(raised.value, UnreadableImageError)
