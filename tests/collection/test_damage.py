"""What is damaged of an unfinished store is done again, and the result is that of an undisturbed one."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from clip_lens_plugin.collection.errors import CollectionDamagedError, CollectionWarning
from tests.collection.conftest import BrokenScenes, collect_rows, files_of, scenes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def begun(clip, tmp_path_factory) -> Path:
    """One of two blocks of 13 scenes, of which 5 cannot be read."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 8)
        with pytest.raises(KeyboardInterrupt):
            collect_rows(clip, BrokenScenes(13, {5: OSError("cut short"), 12: KeyboardInterrupt()}), folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(clip, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 8)
        collect_rows(clip, BrokenScenes(13, {5: OSError("cut short")}), folder)
    return files_of(folder)


@pytest.fixture
def copied(begun, tmp_path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "copied"))


def resumed(clip, folder: Path, says: str) -> dict[str, bytes]:
    """What resuming leaves; it says so once."""
    with pytest.warns(CollectionWarning, match=says) as caught:
        collect_rows(clip, BrokenScenes(13, {5: OSError("cut short")}), folder, resume=True)
    assert len([each for each in caught if each.category is CollectionWarning]) == 1
    return files_of(folder)


@pytest.mark.parametrize("damage", ["flipped", "of another store", "of another process"])
def test_damaged_progress_is_done_again(clip, copied, undisturbed, damage, tmp_path):
    path = copied / "progress" / "0.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "of another store":
        with pytest.raises(KeyboardInterrupt):
            collect_rows(clip, BrokenScenes(12, {11: KeyboardInterrupt()}), tmp_path / "other")
        content = (tmp_path / "other" / "progress" / "0.safetensors").read_bytes()
    elif damage == "of another process":
        path = path.with_name("3.safetensors")
    else:
        content[random.Random(1).randrange(len(content))] ^= 16
    path.write_bytes(content)
    assert resumed(clip, copied, rf"progress/{path.name} is damaged .* is done again") == undisturbed


@pytest.mark.parametrize("damage", ["deleted", "another layer's"])
def test_rows_of_a_finished_block_that_are_damaged_are_written_again(clip, copied, undisturbed, damage):
    path = copied / "mlps" / "c" / "0" / "2" / "0"
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes((copied / "mlps/c/0/1/0").read_bytes())
    assert resumed(clip, copied, r"rows of block 0 are damaged or not there") == undisturbed


def test_lost_rows_are_not_written_of_other_samples(clip, copied):
    (copied / "mlps" / "c" / "0" / "2" / "0").unlink()
    with pytest.raises(ValueError, match=r"cannot be written again: the sample at position 5 .* can be read now"):
        collect_rows(clip, scenes(13), copied, resume=True)


@pytest.mark.parametrize("name", ["clip_lens_plan.json", "mlps/zarr.json", "zarr.json"])
def test_a_damaged_description_stops_with_the_file_named(clip, copied, name):
    content = bytearray((copied / name).read_bytes())
    content[content.index(b"group" if name == "zarr.json" else b"1")] ^= 2
    (copied / name).write_bytes(content)
    before = files_of(copied)
    with pytest.raises(CollectionDamagedError, match=rf"{name} .* is damaged"):
        collect_rows(clip, BrokenScenes(13, {5: OSError("cut short")}), copied, resume=True)
    assert files_of(copied) == before


def test_lost_metadata_of_an_array_are_written_again(clip, copied, undisturbed):
    (copied / "mlps" / "zarr.json").unlink()
    collect_rows(clip, BrokenScenes(13, {5: OSError("cut short")}), copied, resume=True)
    assert files_of(copied) == undisturbed


def test_a_fifo_in_the_place_of_progress_is_one_line(clip, copied):
    (copied / "progress" / "0.safetensors").unlink()
    os.mkfifo(copied / "progress" / "0.safetensors")
    with pytest.raises(CollectionDamagedError, match=r"neither a file nor a folder"):
        collect_rows(clip, BrokenScenes(13, {5: OSError("cut short")}), copied, resume=True)
