"""What is damaged in a store is never read as a value, and said by name."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.collection.checks.store import check_store
from clip_lens_plugin.collection.errors import CollectionNotFoundError
from clip_lens_plugin.model.identity.fingerprints import Fingerprints
from tests.collection.conftest import BrokenScenes, collect_rows
from tests.collection.stores import everything, same

pytestmark = pytest.mark.slow

DESCRIBED = ("clip_lens_plan.json", "clip_lens_description.json", "checksums.safetensors", "moments.safetensors")


@pytest.fixture(scope="module")
def small(clip, tmp_path_factory) -> Path:
    """5 scenes in two blocks of 4 and 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 4)
        return Path(str(collect_rows(clip, BrokenScenes(5, {}), tmp_path_factory.mktemp("small"))._place))


@pytest.fixture(scope="module")
def fingerprints(clip) -> Fingerprints:
    return Fingerprints.of(clip)


@pytest.fixture(autouse=True)
def same_model(fingerprints, monkeypatch) -> None:
    """The model is looked at once, and not whenever a store is opened."""
    known = SimpleNamespace(of=lambda model: fingerprints)
    monkeypatch.setattr("clip_lens_plugin.collection.store.Fingerprints", known)


@pytest.fixture(scope="module")
def whole(clip, small) -> dict[str, Any]:
    return everything(ContributionStore.open(small, clip))


@pytest.fixture
def copied(small, tmp_path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copied"))


def refused(folder: Path, clip: Any) -> CollectionNotFoundError:
    """What everything that reads the store ends in: one line."""
    with pytest.raises(CollectionNotFoundError) as caught:
        everything(ContributionStore.open(folder, clip))
    assert "\n" not in str(caught.value)
    return caught.value


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "collect.lock")


def test_flipped_bits_of_every_file_are_refused_by_name(clip, copied, whole):
    generator = random.Random(7)
    chunks = [path for path in files(copied) if "c" in path.relative_to(copied).parts]
    others = [path for path in files(copied) if path not in chunks]
    for path in (*others, *generator.sample(chunks, 12)):
        content = path.read_bytes()
        changed = bytearray(content)
        changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        assert str(path.relative_to(copied)) in str(refused(copied, clip))
        check = check_store(copied)
        assert any(str(path.relative_to(copied)) in fault for fault in check.faults)
        path.write_bytes(content)
    assert same(everything(ContributionStore.open(copied, clip)), whole)
    assert check_store(copied).is_whole


@pytest.mark.parametrize("damage", ["deleted", "emptied", "cut short", "longer", "a folder", "a fifo", "a link"])
@pytest.mark.parametrize("name", ["mlps/c/0/1/0", "mlps/zarr.json", *DESCRIBED])
def test_a_file_that_is_no_longer_what_it_was_is_refused(clip, copied, name, damage):
    path = copied / name
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "a fifo":
        os.mkfifo(path)
    elif damage == "a link":
        (copied.parent / "elsewhere").write_bytes(content)
        path.symlink_to(copied.parent / "elsewhere")
    elif damage != "deleted":
        path.write_bytes({"emptied": b"", "cut short": content[:-1], "longer": content + b"\0"}[damage])
    refused(copied, clip)
    check = check_store(copied)
    assert not check.is_whole
    assert name in "".join(check.faults)


def test_chunks_that_are_whole_but_elsewhere_are_refused(clip, copied):
    """Each has a right checksum of its own."""
    for a, b in (
        ("mlps/c/0/0/0", "mlps/c/0/1/0"),
        ("mlps/c/0/0/0", "self_attention/c/0/0/0"),
        ("name/c/0", "name/c/1"),
    ):
        contents = (copied / a).read_bytes(), (copied / b).read_bytes()
        (copied / a).write_bytes(contents[1])
        (copied / b).write_bytes(contents[0])
        assert "another chunk" in str(refused(copied, clip))
        assert len([each for each in check_store(copied).faults if "another chunk" in each]) == len(
            {a.split("/")[0], b.split("/")[0]}
        )
        (copied / a).write_bytes(contents[0])
        (copied / b).write_bytes(contents[1])


def test_files_of_another_collection_are_refused(clip, copied, tmp_path):
    collect_rows(clip, BrokenScenes(5, {2: OSError("cut short")}), tmp_path / "other")
    for name in ("moments.safetensors", "sums.safetensors", "skipped.json", "checksums.safetensors", DESCRIBED[1]):
        content = (copied / name).read_bytes()
        shutil.copy(tmp_path / "other" / name, copied / name)
        refused(copied, clip)
        (copied / name).write_bytes(content)


def test_what_is_good_is_said_beside_what_is_damaged(copied):
    (copied / "mlps" / "c" / "1" / "2" / "0").unlink()
    check = check_store(copied)
    assert check.faults == ("samples 4 to 4 of 'mlps' are damaged (mlps/c/1/2/0: it is not there)",)
    assert {"moments", "sums of components", "rows of 'coordinates'", "the other rows of 'mlps'"} <= {*check.good}
    assert "rows of 'mlps'" not in check.good


def test_without_a_description_each_chunk_is_still_compared(copied):
    (copied / "clip_lens_description.json").write_bytes(b"junk")
    (copied / "embed" / "c" / "0" / "0").write_bytes(b"junk")
    check = check_store(copied)
    assert len(check.faults) == 2
    assert "samples 0 to 3 of 'embed' are damaged" in check.faults[1]
    assert "rows of 'mlps'" in check.good
    assert "moments can be read, but not compared with what was written" in check.notes


def test_a_store_says_what_it_is(clip, copied):
    assert (
        str(ContributionStore.open(copied, clip).verify())
        == f"all {len(files(copied)) - 1:,} files are as they were written"
    )
    with pytest.raises(ValueError, match="holds no store"):
        check_store(copied.parent)


def test_an_interrupted_collection_is_checked_too(clip, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(21, {20: KeyboardInterrupt()}), tmp_path)
    check = check_store(tmp_path)
    assert (check.faults, check.good) == ((), ("2 blocks",))
    assert check.notes == ("not finished: 2 of 3 blocks are done; go on with resume",)
    (tmp_path / "label" / "c" / "1").unlink()
    assert check_store(tmp_path).faults == ("rows of samples 8 to 15 are damaged: they are written again with resume",)
    path = tmp_path / "progress" / "0.safetensors"
    tensors = load_file(path)
    about = json.loads(tensors["about"].numpy().tobytes())
    about["blocks"] = [0]
    save_file({**tensors, "about": torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)}, path)
    assert "progress/0.safetensors is damaged" in check_store(tmp_path).faults[0]
