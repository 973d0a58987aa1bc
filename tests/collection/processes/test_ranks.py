"""Several processes share a data set out and leave what one would have left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessRaisedException, spawn

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.collection import ContributionStore
from tests.collection.conftest import BLOCK, BrokenScenes, collect_rows, files_of

pytestmark = pytest.mark.slow

N = 53
UNREADABLE = {5: OSError("cut short"), 17: OSError("cut short")}
SUMMED = {"moments.safetensors", "part_moments.safetensors", "sums.safetensors", "clip_lens_description.json"}
"""Files with sums, which in another order are rounded otherwise, and with their digests."""


def collect_in_rank(rank: int, world: int, meeting: str, folder: str, errors: dict[int, BaseException]) -> None:
    """What each process runs."""
    import clip_lens_plugin.collection.plan as plan

    plan.BLOCK_IMAGES = BLOCK
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    store = collect_rows(HookedCLIP.from_pretrained("scenes", device="cpu"), BrokenScenes(N, errors), folder)
    assert len(store) == N - len(UNREADABLE)
    dist.destroy_process_group()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As each of the processes has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def alone(clip, tmp_path_factory) -> Path:
    """What one process leaves."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", BLOCK)
        collect_rows(clip, BrokenScenes(N, UNREADABLE), folder)
    return folder


def assert_same(clip: HookedCLIP, folder: Path, alone: Path) -> None:
    found, expected = files_of(folder), files_of(alone)
    assert found.keys() == expected.keys()
    assert {name: found[name] for name in found if name not in SUMMED} == {
        name: expected[name] for name in expected if name not in SUMMED
    }
    mine, theirs = ContributionStore.open(folder, clip), ContributionStore.open(alone, clip)
    assert (mine.plan, mine.skipped) == (theirs.plan, theirs.skipped)
    assert mine.completeness_error == theirs.completeness_error
    parts = zip(mine.part_moments, theirs.part_moments, strict=True)
    for sums, others in ((mine.moments, theirs.moments), (mine.sums, theirs.sums), *parts):
        tensors = others.to_tensors()
        for name, value in sums.to_tensors().items():
            difference = (value.double() - tensors[name].double()).norm()
            assert difference <= 1e-10 * tensors[name].double().norm(), name


def test_two_processes_leave_what_one_leaves(clip, tmp_path, alone):
    spawn(collect_in_rank, (2, str(tmp_path / "meeting"), str(tmp_path / "out"), UNREADABLE), nprocs=2)
    assert_same(clip, tmp_path / "out", alone)


def test_what_two_processes_began_one_can_finish(clip, tmp_path, alone):
    broken = {**UNREADABLE, 42: RuntimeError("the machine is on fire")}
    with pytest.raises(ProcessRaisedException, match="on fire"):
        spawn(collect_in_rank, (2, str(tmp_path / "meeting"), str(tmp_path / "out"), broken), nprocs=2)
    assert (tmp_path / "out" / "progress" / "1.safetensors").exists()
    collect_rows(clip, BrokenScenes(N, UNREADABLE), tmp_path / "out", resume=True)
    assert_same(clip, tmp_path / "out", alone)
