"""Processes that collect together agree before they begin, and end together, with the reason, when one of them ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.collection import ContributionStore
from tests.collection.conftest import BrokenScenes, collect_rows, files_of
from tests.collection.in_processes import NEURONS, N

pytestmark = pytest.mark.slow

Outcomes = list[list[Any] | None]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[Path, Outcomes]]]:
    """Runs a case of :mod:`tests.collection.in_processes`; its folder, and how each process ended."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.collection.in_processes"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"

        def outcomes_of(name: str, world: int = 2) -> tuple[Path, Outcomes]:
            folder = tmp_path_factory.mktemp("processes") / "out"
            print(json.dumps({"name": name, "world": world, "folder": str(folder)}), file=starter.stdin, flush=True)
            return folder, json.loads(starter.stdout.readline())

        yield outcomes_of
        starter.stdin.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other data", r"process 1 has n_samples 52 \(process 0: 53\), dataset_fingerprint \w+"),
        ("other options", r"process 1 has dtype float32 \(process 0: float16\), batch_size 2 \(process 0: 4\)"),
        ("other neurons", r"process 1 has neurons 4 \(process 0: None\)"),
        ("other model", r"process 1 has another model, .* other image weights"),
    ],
)
def test_processes_that_differ_do_not_begin(outcomes, name, message):
    folder, found = outcomes(name)
    for each in found:  # The second to find out may hear of it first.
        assert each[0] in ("ProcessesDisagreeError", "OtherProcessError")
        assert re.search(message, each[1]), each[1]
    assert not any(folder.iterdir())


def test_one_that_looks_elsewhere_is_found_out(outcomes):
    _, found = outcomes("other place")
    assert all("Process 1 does not see what process 0 began" in each[1] for each in found)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("interrupted", "KeyboardInterrupt", "it was interrupted"),
        ("exits", "SystemExit", "it ended with exit code 3"),
        ("raises", "RuntimeError", "the machine is on fire"),
    ],
)
def test_what_ends_one_ends_the_other_with_the_reason(clip, outcomes, undisturbed, name, kind, message):
    folder, (first, second) = outcomes(name)
    assert second[0] == kind
    assert "16 of 24 samples of process 1 are kept" in second[1]
    assert first[0] == "OtherProcessError"
    assert first[1].startswith(f"Process 1 of 2 stopped: {message}")
    resumed(clip, folder, undisturbed)


def test_one_that_is_killed_ends_the_others(clip, outcomes, undisturbed):
    folder, (first, second, third) = outcomes("killed", 3)
    assert second is None
    for each in (first, third):
        assert each[0] == "OtherProcessError"
        assert "Process 1 of 3 gave no sign of life for 3 seconds" in each[1]
        assert "are kept" in each[1]
    resumed(clip, folder, undisturbed)


def test_the_first_that_hangs_ends_the_others(clip, outcomes, undisturbed):
    folder, (first, second) = outcomes("first is stopped")
    assert first is None
    assert second[0] == "OtherProcessError"
    assert re.match("Process 0 of 2 gave no sign of life|The processes have lost each other", second[1])
    resumed(clip, folder, undisturbed)


def test_one_that_is_killed_when_all_is_done_but_the_sum(clip, outcomes, undisturbed):
    folder, (first, second) = outcomes("killed while sending")
    assert second is None
    assert first[0] == "OtherProcessError"
    assert first[2] < 20.0
    resumed(clip, folder, undisturbed)


def test_one_that_works_longer_than_a_dead_one_is_silent_is_waited_for(outcomes):
    folder, (first, second) = outcomes("slow")
    assert [first[0], second[0]] == ["", ""]
    assert first[2] > 5.0
    assert (folder / "clip_lens_description.json").exists()


def test_sums_of_all_kinds_are_those_of_one_process(clip, outcomes, tmp_path):
    folder, found = outcomes("neurons")
    assert [each[0] for each in found] == ["", ""]
    alone = collect_rows(clip, BrokenScenes(N, {}), tmp_path, neurons=NEURONS)
    together = ContributionStore.open(folder, clip)
    for layer in NEURONS:
        moments, expected = together.neuron_moments(layer), alone.neuron_moments(layer)
        assert (moments.n, moments.neurons.tolist()) == (N, expected.neurons.tolist())
        torch.testing.assert_close(moments.sum_s, expected.sum_s, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(moments.sum_ss, expected.sum_ss, rtol=1e-12, atol=1e-12)
        assert torch.equal(moments.greatest.positions, expected.greatest.positions)
        assert torch.equal(moments.greatest.scalars, expected.greatest.scalars)
    assert together.class_sums.counts.tolist() == alone.class_sums.counts.tolist()
    torch.testing.assert_close(together.class_sums.sum_y, alone.class_sums.sum_y, rtol=1e-12, atol=1e-12)
    assert [each.n for each in together.part_moments] == [each.n for each in alone.part_moments]
    for found, expected in zip(together.part_moments, alone.part_moments, strict=True):
        torch.testing.assert_close(found.sum_yy, expected.sum_yy, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "message"), [("first cannot begin", "holds something else"), ("first cannot finish", "no room")]
)
def test_a_failure_of_the_first_ends_all(outcomes, name, message):
    _, (first, second, third) = outcomes(name, 3)
    assert message in first[1]
    for each in (second, third):
        assert each[0] == "OtherProcessError"
        assert each[1].startswith("Process 0 of 3 stopped: ")
        assert message in each[1]


@pytest.fixture(scope="module")
def undisturbed(clip, tmp_path_factory) -> dict[str, bytes]:
    """The files that one process leaves, without the sums, which in another order are rounded otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 8)
        folder = tmp_path_factory.mktemp("undisturbed")
        collect_rows(clip, BrokenScenes(N, {}), folder)
    return rows_of(folder)


def rows_of(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in files_of(folder).items() if "/c/" in name}


def resumed(clip: HookedCLIP, folder: Path, undisturbed: dict[str, bytes]) -> None:
    """One process goes on from what two have left."""
    assert (folder / "progress" / "0.safetensors").exists()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    read = BrokenScenes(N, {0: AssertionError("block 0 was kept"), 16: AssertionError("block 2 was kept")})
    store = collect_rows(clip, read, folder, resume=True)
    torch.set_num_threads(before)
    assert isinstance(store, ContributionStore)
    assert len(store) == store.moments.n == N
    assert rows_of(folder) == undisturbed
