"""A file appears whole or not at all, and what stood there before stays until then."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from markupsafe import Markup
from safetensors.torch import save_file

from clip_lens_plugin.files.whole import check_place, make_folder, whole_files
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.views.drawing.figure_files import save_figure
from clip_lens_plugin.views.drawing.view import View
from clip_lens_plugin.views.figures.summaries import explained_variance_figure


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def moments() -> Moments:
    return Moments(
        4, torch.ones(2, 3, 8, dtype=torch.float64), torch.ones(2, 3, 8, 8, dtype=torch.float64), "embedding"
    )


TABLE = pd.DataFrame({"layer": [0, 0], "head": [1, 1], "rank": [1, 2], "explained_variance": [0.3, 0.5]})

WRITERS = {
    "moments.safetensors": lambda path: moments().save(path),
    "figure.png": lambda path: save_figure(explained_variance_figure(TABLE), path),
    "figure.svg": lambda path: save_figure(explained_variance_figure(TABLE), path),
    "page.html": lambda path: View("a page", Markup(), lambda: explained_variance_figure(TABLE)).save(path),
}
"""File to what writes it, each more than a kilobyte."""


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file(name, tmp_path) -> None:
    path = tmp_path / name
    path.write_bytes(b"the old one")
    with full_disk(1000), pytest.raises(OSError, match="File too large"):
        WRITERS[name](path)
    assert path.read_bytes() == b"the old one"
    assert files_in(tmp_path) == [name]
    WRITERS[name](path)
    assert path.stat().st_size > 1000
    assert files_in(tmp_path) == [name]


def test_several_files_appear_together(tmp_path) -> None:
    (tmp_path / "a").write_text("old")

    def interrupted() -> None:
        with whole_files() as beside:
            beside(tmp_path / "a").write_text("new")
            beside(tmp_path / "b").write_text("new")
            assert (tmp_path / "a").read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files_in(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    with whole_files() as beside:
        for name in ("a", "b"):
            beside(tmp_path / name).write_text("new")
        assert beside(tmp_path / "a") == beside(tmp_path / "a")
    assert files_in(tmp_path) == ["a", "b"]
    assert {(tmp_path / name).read_text() for name in "ab"} == {"new"}


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("write", [lambda path: path.write_text("x"), lambda path: save_file({}, path)])
def test_permissions_are_those_of_plain_writing(write, umask, tmp_path) -> None:
    previous = os.umask(umask)
    try:
        (tmp_path / "plain").write_text("x")
        (tmp_path / "kept").write_text("old")
        (tmp_path / "kept").chmod(0o640)
        with whole_files() as beside:
            write(beside(tmp_path / "new"))
            write(beside(tmp_path / "kept"))
    finally:
        os.umask(previous)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"plain": 0o666 & ~umask, "new": 0o666 & ~umask, "kept": 0o640}


def test_a_link_stays_and_its_file_is_replaced(tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for target in ("there", "not-yet"):
        (tmp_path / target).symlink_to(tmp_path / "elsewhere" / target)
    (tmp_path / "elsewhere" / "there").write_text("old")
    with whole_files() as beside:
        for target in ("there", "not-yet"):
            beside(tmp_path / target).write_text("new")
    for target in ("there", "not-yet"):
        assert (tmp_path / target).is_symlink()
        assert (tmp_path / "elsewhere" / target).read_text() == "new"
    assert files_in(tmp_path / "elsewhere") == ["not-yet", "there"]


def test_a_name_as_long_as_names_may_be(tmp_path) -> None:
    path = tmp_path / ("x" * 250 + ".html")
    with whole_files() as beside:
        beside(path).write_text("x")
    assert files_in(tmp_path) == [path.name]


def test_what_is_no_place_for_a_file(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "a device or a pipe"),
        (Path("/dev/null"), "a device or a pipe"),
        (tmp_path / "none" / "a.html", "There is no folder"),
    ):
        with pytest.raises(OSError, match=message):
            check_place(path)
        with pytest.raises(OSError, match=message), whole_files() as beside:
            beside(path)
    assert files_in(tmp_path) == ["pipe"]


IN_THE_WAY = {"is no folder": "file/a/b", "answers 'File name too long'": "a" * 300, "may not be written to": "b" * 300}


@pytest.mark.parametrize("why", IN_THE_WAY)
def test_a_folder_that_cannot_be_made_is_named_with_what_is_in_its_way(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / IN_THE_WAY[why]
    if "written" in why:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OSError, match=rf"^The folder {place} cannot be made: .*{why}\. Name a place that can be"):
        make_folder(place)
    make_folder(tmp_path / "new" / "inner")
    assert (tmp_path / "new" / "inner").is_dir()


@pytest.mark.parametrize(("number", "reason"), [(errno.EROFS, "Read-only"), (errno.ENOSPC, "No space")])
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_file_that_cannot_be_begun_is_named(
    number: int, reason: str, is_replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*given: Any) -> int:
        raise OSError(number, os.strerror(number), "partial")

    if is_replaced:
        (tmp_path / "a.html").write_text("before")
    monkeypatch.setattr(os, "open", refusing)
    said = rf"^The file {tmp_path}/a.html cannot be made: its file system, at {tmp_path}, answers '{reason}.*Name a"
    with pytest.raises(OSError, match=said) as caught, whole_files() as beside:
        beside(tmp_path / "a.html")
    assert caught.value.errno == number
