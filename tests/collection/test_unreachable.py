"""What cannot be reached stops collecting, whatever reads it; resumed, it leaves the bytes of an undisturbed run."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import get_worker_info
from torchvision.datasets import ImageFolder

from clip_lens_plugin.collection.reading import dead_readers_said
from clip_lens_plugin.datasets import as_source
from clip_lens_plugin.files.given import UnreachableError
from tests.collection.conftest import BrokenScenes, collect_rows, files_of, scenes

pytestmark = pytest.mark.slow

N = 21


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Scenes in two class folders, one of them damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(N):
        path = folder / f"{'ab'[i % 2]}/{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        scenes(N)[i][0].save(path)
    (folder / "a" / "04.png").write_bytes(b"damaged")
    return folder


def as_folder(pictures: Path, place: Path) -> Any:
    shutil.copytree(pictures, place)
    return as_source(place)


def as_shards(pictures: Path, place: Path) -> Any:
    place.mkdir()
    with tarfile.open(place / "a.tar", "w") as tar:
        for path in sorted(pictures.rglob("*.png")):
            tar.add(path, path.relative_to(pictures).as_posix())
    return as_source(place)


def as_torch(pictures: Path, place: Path) -> Any:
    shutil.copytree(pictures, place)
    return as_source(ImageFolder(str(place)))


class Vanishing:
    """A source whose folder is gone when a sample is read for the first time."""

    def __init__(self, source: Any, place: Path, position: int) -> None:
        self.source, self.place, self.position = source, place, position

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def description(self) -> str:
        return self.source.description

    @property
    def classes(self) -> Any:
        return self.source.classes

    def name(self, position: int) -> str:
        return self.source.name(position)

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def read(self, position: int) -> Any:
        if position == self.position and self.place.exists():
            self.place.rename(self.place.with_name("away"))
        return self.source.read(position)


@pytest.mark.parametrize(
    ("made", "what", "workers"),
    [(as_folder, "contributions", 0), (as_shards, "moments", 1), (as_torch, "moments", 0)],
)
def test_a_data_set_that_vanishes_stops_and_is_gone_on_with_when_it_is_back(
    clip, pictures, tmp_path, made, what, workers
):
    place, out = tmp_path / "data", tmp_path / "out"
    source = made(pictures, place)
    with pytest.raises(UnreachableError, match=r"Sample '.*' cannot be reached: .*may be whole.*go on with resume\."):
        collect_rows(clip, Vanishing(source, place, 13), out, what=what, workers=workers)
    place.with_name("away").rename(place)
    store = collect_rows(clip, source, out, what=what, resume=True)
    assert store.moments.n == N - 1
    assert len(store.skipped) == 1
    collect_rows(clip, source, tmp_path / "undisturbed", what=what)
    assert files_of(out) == files_of(tmp_path / "undisturbed")


def test_a_machine_that_fails_stops_with_what_is_done_kept(clip, tmp_path):
    for error in (MemoryError(), OSError(errno.EIO, "I/O error")):
        with pytest.raises(UnreachableError, match=r"'00000013' cannot be reached: (too little|I/O).*is kept"):
            collect_rows(clip, BrokenScenes(N, {13: error}), tmp_path, what="moments", resume=True)
    again = BrokenScenes(N, {i: KeyboardInterrupt() for i in range(8)})
    assert collect_rows(clip, again, tmp_path, what="moments", resume=True).moments.n == N


class Deadly(BrokenScenes):
    """Ends the process that reads it for another, as the system does where memory runs out."""

    def __getitem__(self, position: int) -> Any:
        if position == 13 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(position)


def test_a_reading_process_that_is_killed_stops_in_one_line(clip, tmp_path):
    with pytest.raises(UnreachableError, match=r"has died.*is kept.*fewer workers") as raised:
        collect_rows(clip, Deadly(N, {}), tmp_path, what="moments", workers=1)
    assert "\n" not in str(raised.value)
    # It may die before the first block is done, since it reads ahead.
    assert collect_rows(clip, Deadly(N, {}), tmp_path, what="moments", resume=True).moments.n == N


def test_other_errors_of_torch_keep_their_traceback():
    with pytest.raises(RuntimeError, match="shapes"), dead_readers_said():
        raise RuntimeError("shapes do not match")
