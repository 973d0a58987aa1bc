"""Nothing outside the folder is read or written, and nothing that is no plain file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clip_lens_plugin.collection.errors import CollectionDamagedError
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.dependencies.of_zarr import default_buffer_prototype, sync

STRAY: dict[str, Callable[[Path, Path], object]] = {
    "link to a folder": lambda path, outside: path.symlink_to(outside),
    "link to a file": lambda path, outside: path.symlink_to(outside / "theirs"),
    "link to nothing": lambda path, outside: path.symlink_to(outside / "new"),
    "fifo": lambda path, outside: os.mkfifo(path),
}


@pytest.mark.parametrize("stray", STRAY)
@pytest.mark.parametrize("key", ["file", "folder/file"])
def test_links_and_fifos_are_refused(tmp_path, stray, key):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "theirs").write_bytes(b"theirs")
    STRAY[stray](inside / key.split("/")[0], outside)
    place = Place(inside)
    for act in (lambda: place.get(key), lambda: place.set(key, b"ours"), lambda: place.delete(key)):
        with pytest.raises(CollectionDamagedError, match="which collecting never makes"):
            act()
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"theirs": b"theirs"}


def test_a_file_is_created_once_and_whole(tmp_path, monkeypatch):
    place = Place(tmp_path)
    place.create("plan.json", b"first")
    with pytest.raises(FileExistsError):
        place.create("plan.json", b"second")
    monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(OSError("no links here")))
    place.create("other.json", b"other")
    with pytest.raises(FileExistsError):
        place.create("other.json", b"second")
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {"plan.json": b"first", "other.json": b"other"}


def test_what_zarr_makes_of_a_store_is_guarded_alike(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    store = Place(tmp_path).store.with_read_only(True)
    with pytest.raises(CollectionDamagedError, match="which collecting never makes"):
        sync(store.get("link", default_buffer_prototype()))


def test_an_address_of_this_machine_is_its_folder(tmp_path):
    assert Place(f"file://{tmp_path}/store").address == str(tmp_path / "store")
    assert Place(f"file://{tmp_path}/store").is_local
