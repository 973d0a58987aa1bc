"""Progress is written by the minute, whole blocks alone, and last of all when something ends the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_lens_plugin import HookedCLIP, Moments
from clip_lens_plugin.collection import collect
from clip_lens_plugin.collection.checks.description import read_plan
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.running.progress import Progress
from tests.collection.conftest import BrokenScenes, collect_rows, files_of

pytestmark = pytest.mark.slow

N = 29


@pytest.fixture(autouse=True)
def by_the_minute(small_blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is outside of tests."""
    monkeypatch.setattr("clip_lens_plugin.collection.running.progress.SECONDS", 60.0)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys in the order in which they are set."""
    keys: list[str] = []
    set_key = Place.set
    monkeypatch.setattr(Place, "set", lambda self, key, value: (keys.append(key), set_key(self, key, value))[1])
    return keys


def blocks_kept(clip: HookedCLIP, folder: Path) -> list[int]:
    place = Place(folder)
    plan = read_plan(place)
    assert plan is not None
    return Progress.load(place, 0, plan).blocks


def test_four_blocks_within_a_minute_are_written_once(clip, tmp_path, written):
    collect(clip, BrokenScenes(N, {}), tmp_path, batch_size=4, progress=False)
    assert written.count("progress/0.safetensors") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), RuntimeError("on fire")])
def test_what_ends_the_run_finds_the_whole_blocks_kept(clip, tmp_path, written, error):
    with pytest.raises(type(error)) as raised:
        collect_rows(clip, BrokenScenes(N, {5: OSError("cut short"), 21: error}), tmp_path)
    assert raised.value.__notes__ == ["16 of 29 samples are kept"]
    assert written.count("progress/0.safetensors") == 1
    assert blocks_kept(clip, tmp_path) == [0, 1]


def test_ctrl_c_while_a_block_is_added_leaves_no_half_of_it(clip, tmp_path, monkeypatch):
    collect_rows(clip, BrokenScenes(N, {}), tmp_path / "undisturbed")
    absorb, calls = Moments.absorb, []

    def interrupted(self, contributions):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return absorb(self, contributions)

    monkeypatch.setattr(Moments, "absorb", interrupted)
    monkeypatch.setattr("clip_lens_plugin.collection.running.progress.SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(N, {}), tmp_path / "out")
    assert blocks_kept(clip, tmp_path / "out") == [0]
    monkeypatch.setattr(Moments, "absorb", absorb)
    collect_rows(clip, BrokenScenes(N, {}), tmp_path / "out", resume=True)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")


def test_blocks_that_two_processes_did_count_once(clip, tmp_path, monkeypatch):
    """As where one outlived its fellow by some seconds, while the store was taken up again."""
    collect_rows(clip, BrokenScenes(N, {}), tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(N, {17: KeyboardInterrupt()}), tmp_path / "out")
    place, load_earlier = Place(tmp_path / "out"), Progress.load_earlier

    def after_another_wrote(place, plan, present):
        theirs = Progress.load(place, 0, plan)
        Progress(theirs.blocks, theirs.moments, theirs.sums, chunks=theirs.chunks, _is_kept=False).save(place, 1, plan)
        return load_earlier(place, plan, present)

    monkeypatch.setattr(Progress, "load_earlier", after_another_wrote)
    collect_rows(clip, BrokenScenes(N, {}), place.address, resume=True)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")
