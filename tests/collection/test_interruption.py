"""However a run ends, the resumed one leaves the same bytes as one that nothing disturbed."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from zarr.storage import LocalStore

from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.collection.store import CollectionNotFoundError
from tests.collection.conftest import BLOCK, SEED, BrokenScenes, collect_rows, files_of, scenes

pytestmark = pytest.mark.slow

UNREADABLE = {5: OSError("cut short"), 17: OSError("cut short")}

SCRIPT = f"""
import os
import sys
import torch
import clip_lens_plugin.collection.plan
import clip_lens_plugin.collection.running.progress
from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.collection import collect
from clip_lens_plugin.scenes.dataset import ScenesDataset

clip_lens_plugin.collection.plan.BLOCK_IMAGES = {BLOCK}
clip_lens_plugin.collection.running.progress.SECONDS = 0.05
dataset = ScenesDataset(int(sys.argv[2]), {SEED}, "background")
torch.set_num_threads(int(sys.argv[3]))
for _ in sys.stdin:
    process = os.fork()
    if process == 0:
        model = HookedCLIP.from_pretrained("scenes", device="cpu")
        collect(model, dataset, sys.argv[1], "contributions", batch_size=4, resume=True, progress=False)
        os._exit(0)
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""
"""Starts a process that collects for every line it gets, so that what takes longest, importing, is done once.

It computes on as many threads as the tests do: the last digits depend on their number.
"""


@pytest.fixture(scope="module")
def undisturbed(clip, tmp_path_factory) -> dict[str, bytes]:
    """The files of 29 scenes in four blocks, two scenes unreadable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", BLOCK)
        folder = tmp_path_factory.mktemp("undisturbed")
        collect_rows(clip, BrokenScenes(29, UNREADABLE), folder)
        return files_of(folder)


@pytest.mark.parametrize("position", [0, 7, 8, 14, 28])
def test_interrupted_while_reading(clip, tmp_path, undisturbed, position):
    interrupted = BrokenScenes(29, {**UNREADABLE, position: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, interrupted, tmp_path)
    with pytest.raises(CollectionNotFoundError, match="resume"):
        ContributionStore.open(tmp_path, clip)
    collect_rows(clip, BrokenScenes(29, UNREADABLE), tmp_path, resume=True)
    assert files_of(tmp_path) == undisturbed


def test_no_block_is_read_again_that_was_written(clip, tmp_path, undisturbed):
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(29, {**UNREADABLE, 17: KeyboardInterrupt()}), tmp_path)
    again = BrokenScenes(29, {**UNREADABLE, **{i: KeyboardInterrupt() for i in range(16)}})
    collect_rows(clip, again, tmp_path, resume=True)
    assert files_of(tmp_path) == undisturbed


def test_resumed_on_another_number_of_threads(clip, tmp_path, undisturbed):
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(29, {**UNREADABLE, 17: KeyboardInterrupt()}), tmp_path)
    try:
        torch.set_num_threads(before + 1)
        collect_rows(clip, BrokenScenes(29, UNREADABLE), tmp_path, resume=True)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert files_of(tmp_path) == undisturbed


@pytest.mark.parametrize("written", [0, 4, 12, 25, 60, 100, 107])
def test_a_full_disk_says_so_and_costs_nothing(clip, tmp_path, undisturbed, monkeypatch, written):
    left = [written]
    write = LocalStore.set

    async def limited(store, key, value):
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), key)
        left[0] -= 1
        await write(store, key, value)

    monkeypatch.setattr(LocalStore, "set", limited)
    with pytest.raises(OSError, match=r"No space left.*go on with resume"):
        collect_rows(clip, BrokenScenes(29, UNREADABLE), tmp_path)
    monkeypatch.setattr(LocalStore, "set", write)
    collect_rows(clip, BrokenScenes(29, UNREADABLE), tmp_path, resume=True)
    assert files_of(tmp_path) == undisturbed


def test_killed_three_times(clip, tmp_path):
    n, pauses, killed = 128, random.Random(0), tmp_path / "killed"
    collect_rows(clip, scenes(n), tmp_path / "undisturbed")
    command = [sys.executable, "-c", SCRIPT, str(killed), str(n), str(torch.get_num_threads())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        for block in (1, 5, 9):
            print("go", file=starter.stdin, flush=True)
            collecting = int(starter.stdout.readline())
            _wait_for_block(killed, block)
            time.sleep(pauses.uniform(0.0, 0.05))
            os.kill(collecting, signal.SIGKILL)
            assert int(starter.stdout.readline()) == -signal.SIGKILL, "It ended before it was killed."
            assert not (killed / "moments.safetensors").exists()
        starter.stdin.close()
    collect_rows(clip, scenes(n), killed, resume=True)
    assert files_of(killed) == files_of(tmp_path / "undisturbed")


def _wait_for_block(folder: Path, block: int) -> None:
    """Until it has labels, which are written after its contributions."""
    end = time.monotonic() + 120
    while not (folder / "label" / "c" / str(block)).exists():
        assert time.monotonic() < end, f"Block {block} was not written in time."
        time.sleep(0.002)
