"""A store takes an empty folder and owns what it made; nothing else is written over or removed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from clip_lens_plugin.collection.errors import CollectionDamagedError, CollectionWarning
from tests.collection.conftest import BrokenScenes, collect_rows, files_of, scenes

pytestmark = pytest.mark.slow


def test_a_folder_of_others_is_not_taken_whatever_its_name(clip, tmp_path):
    """Names that a store has too are no reason to write over what lies there."""
    folders = {
        "embedding": lambda folder: (folder / "embedding").mkdir(),
        "label": lambda folder: _write(folder / "label" / "cats.csv"),
        "name": lambda folder: _write(folder / "name" / "c" / "0"),
        "moments.safetensors": lambda folder: _write(folder / "moments.safetensors"),
        "progress": lambda folder: _write(folder / "progress" / "0.safetensors"),
        "zarr.json": lambda folder: zarr.create_group(folder).create_array("embedding", data=np.arange(4)),
        ".hidden": lambda folder: _write(folder / ".hidden"),
        "cats.partial": lambda folder: _write(folder / "cats.partial"),
        "clip_lens_plan.old": lambda folder: (folder / "clip_lens_plan.old").symlink_to(__file__),
        "collect.lock": lambda folder: _write(folder / "collect.lock"),
    }
    for number, (name, put) in enumerate(folders.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        put(folder)
        before = sorted(folder.rglob("*")), files_of(folder)
        for resume in (False, True):
            with pytest.raises(ValueError, match=r"holds something else.*collect into an empty or new place"):
                collect_rows(clip, scenes(9), folder, resume=resume)
        assert (sorted(folder.rglob("*")), files_of(folder)) == before, name


def test_what_others_put_into_a_collection_stays(clip, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(9, {8: KeyboardInterrupt()}), tmp_path / "out")
    hex32 = "0123456789abcdef" * 2
    theirs = ["notes.txt", "embedding/notes.txt", "cats.partial", "mlps/c/cats.partial", f"cats.{hex32}.partial"]
    theirs += ["progress/notes.txt", "progress/1.txt", "progress/1.safetensors.bak", "progress/old/1.safetensors"]
    half_written = [f"moments.{hex32}.partial", f"mlps/c/1/0.{hex32}.partial", f"progress/0.{hex32}.partial"]
    for name in theirs + half_written:
        _write(tmp_path / "out" / name)
    with pytest.warns(CollectionWarning, match=r"progress/.* is not of the store and is left alone"):
        store = collect_rows(clip, BrokenScenes(9, {}), tmp_path / "out", resume=True)
    assert len(store) == 9
    collect_rows(clip, BrokenScenes(9, {}), tmp_path / "undisturbed")
    expected = files_of(tmp_path / "undisturbed") | dict.fromkeys(theirs, b"theirs")
    assert files_of(tmp_path / "out") == expected


def test_a_link_out_of_a_collection_is_not_written_through(clip, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(9, {0: KeyboardInterrupt()}), tmp_path / "out")
    (tmp_path / "theirs").mkdir()
    shutil.rmtree(tmp_path / "out" / "mlps")
    (tmp_path / "out" / "mlps").symlink_to(tmp_path / "theirs")
    with pytest.raises(CollectionDamagedError, match=r"mlps is a symbolic link"):
        collect_rows(clip, scenes(9), tmp_path / "out", resume=True)
    assert not [*(tmp_path / "theirs").iterdir()]


def test_a_plan_holds_no_time_and_no_path_and_is_laid_down_first(clip, tmp_path):
    for name in ("a", "b"):
        with pytest.raises(KeyboardInterrupt):
            collect_rows(clip, BrokenScenes(9, {0: KeyboardInterrupt()}), tmp_path / name)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert json.loads((tmp_path / "a" / "clip_lens_plan.json").read_text())["n_samples"] == 9
    assert str(tmp_path) not in (tmp_path / "a" / "clip_lens_plan.json").read_text()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / f"clip_lens_plan.{'0' * 32}.partial").write_text("{")
    assert len(collect_rows(clip, scenes(9), tmp_path / "begun")) == 9
    assert not [*(tmp_path / "begun").glob("*.partial")]


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"theirs")
