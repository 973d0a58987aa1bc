"""Collects in several processes that end in several ways: one line of standard input a case, one of output its outcome.

The processes are forked from this one, so that what takes longest, importing, is done once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import clip_lens_plugin.collection.plan as plan
import clip_lens_plugin.collection.processes.agreement as agreement
import clip_lens_plugin.collection.processes.board as board
import clip_lens_plugin.collection.running.progress as progress
from clip_lens_plugin import HookedCLIP
from tests.collection.conftest import BLOCK, BrokenScenes, collect_rows

N = 53
LATE = 42
"""Position of a sample that the second process reads when it has done blocks already."""

NEURONS = {2: [1, 5, 300], 4: None}

board.BEAT, agreement.VISIBLE, plan.BLOCK_IMAGES = 0.2, 1.0, BLOCK


class Acting(BrokenScenes):
    """Scenes that do something when one of them is read, once the other processes have done their first blocks."""

    def __init__(self, position: int, act: Callable[[], Any], others: Sequence[Path] = ()) -> None:
        super().__init__(N, {})
        self._position, self._act, self._others = position, act, others

    def __getitem__(self, position: int) -> Any:
        if position == self._position:
            while not all(each.exists() for each in self._others):
                time.sleep(0.01)
            self._act()
        return super().__getitem__(position)


class Marking(BrokenScenes):
    """Scenes that leave a file when one is read that comes after the blocks 0 to 2."""

    def __init__(self, mark: Path) -> None:
        super().__init__(N, {})
        self._mark = mark

    def __getitem__(self, position: int) -> Any:
        if position >= 3 * BLOCK:
            self._mark.touch()
        return super().__getitem__(position)


def raises(error: BaseException) -> Callable[[], None]:
    """Raises it when called."""

    def act(*_: Any) -> None:
        raise error

    return act


def sends(number: int) -> Callable[..., None]:
    """Sends a signal to the process itself when called."""
    return lambda *_, **__: os.kill(os.getpid(), number)


def case(name: str, rank: int, world: int, model: HookedCLIP, folder: Path) -> None:
    """What a process of the case does until it collects, and collecting."""
    dataset, options, acts = BrokenScenes(N, {}), {}, rank == 1
    late = {
        "killed": sends(signal.SIGKILL),
        "interrupted": raises(KeyboardInterrupt()),
        "exits": raises(SystemExit(3)),
        "raises": raises(RuntimeError("the machine is on fire")),
        "slow": lambda: time.sleep(5.0),
    }
    if name in ("killed", "slow", "first is stopped"):
        board.MISSED = 15
    else:
        board.MISSED = 150  # On a busy machine a sign of life may be late.
    marks = {each: Path(f"{folder}.{each}.mark") for each in range(world)}
    if name in late:
        others = [path for each, path in marks.items() if each != 1]
        position = 34 if name == "killed" else LATE
        dataset = Acting(position, late[name], others) if acts else Marking(marks[rank])
    if name == "first is stopped":
        progress.SECONDS, progress.WRITING = 0.0, 1e9
    if name == "first is stopped" and rank == 0:
        dataset = Acting(LATE - LATE % BLOCK - BLOCK, sends(signal.SIGSTOP))
    if acts and name == "other data":
        dataset = BrokenScenes(N - 1, {})
    if acts and name == "other options":
        options = {"batch_size": 2, "dtype": "float32"}
    if acts and name == "other model":
        with torch.no_grad():
            model.clip.visual.proj.mul_(1.5)
    if name == "neurons":
        options = {"neurons": NEURONS}
    if acts and name == "other neurons":
        options = {"neurons": [4]}
    if acts and name == "other place":
        folder = folder / "elsewhere"
    if acts and name == "killed while sending":
        dist.send = sends(signal.SIGKILL)
    if name == "first cannot begin":
        (folder / "notes.txt").write_text("mine")
    if name == "first cannot finish" and rank == 0:
        vars(sys.modules["clip_lens_plugin.collection.running.collecting"])["finish"] = raises(OSError("no room"))
    collect_rows(model, dataset, folder, **options)


def run(name: str, rank: int, world: int, model: HookedCLIP, folder: Path, port: int) -> None:
    """Runs a case in this process, and writes how it ended."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    begun, found = time.monotonic(), ["", ""]
    try:
        case(name, rank, world, model, folder)
    except BaseException as error:
        found = [type(error).__name__, "; ".join([str(error), *getattr(error, "__notes__", [])])]
    Path(f"{folder}.{rank}.json").write_text(json.dumps([*found, time.monotonic() - begun]))
    os._exit(0)


def outcomes(name: str, world: int, model: HookedCLIP, folder: Path) -> list[list[Any] | None]:
    """Of each process its error's type, message and seconds; None for one that was killed or stopped."""
    folder.mkdir()
    started: list[int] = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank in range(world):
        process = os.fork()
        if process == 0:
            run(name, rank, world, model, folder, port)
        started.append(process)
    ended = [os.waitpid(process, os.WUNTRACED) for process in started]
    for process, status in ended:
        if os.WIFSTOPPED(status):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    files = [Path(f"{folder}.{rank}.json") for rank in range(world)]
    return [json.loads(file.read_text()) if file.exists() else None for file in files]


if __name__ == "__main__":
    torch.set_num_threads(1)
    embedded = HookedCLIP.from_pretrained("scenes", device="cpu")
    print("ready", flush=True)
    for line in sys.stdin:
        given = json.loads(line)
        print(json.dumps(outcomes(given["name"], given["world"], embedded, Path(given["folder"]))), flush=True)
