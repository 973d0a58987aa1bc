"""Prints how long one waits before anything is computed: ``python -m tests.benchmarks.start``.

CPU seconds, user's and system's, of processes of their own, with compiled bytecode; medians of five. The report is the
whole command, from the shell to the page, with its texts cached by a run that does not count; by the clock, too.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROUNDS = 5
UPSTREAM = "import transformer_lens, open_clip"
BOTH = f"""
import time
start = time.process_time()
{UPSTREAM}
upstream = time.process_time() - start
from clip_lens_plugin import HookedCLIP
print((time.process_time() - start) / upstream)
"""
"""In one process: between two, the same imports differ by more than what is measured."""
COMMAND = ("-m", "clip_lens_plugin")


def environment(folder: Path) -> dict[str, str]:
    """That of the measured processes."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "CLIP_LENS_CACHE": str(folder / "cache")}


def printed(code: str, folder: Path) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment(folder), capture_output=True, check=True, text=True).stdout


def seconds(arguments: Sequence[str], folder: Path) -> tuple[float, float]:
    """Of one fresh interpreter: CPU seconds, and seconds by the clock."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment(folder), capture_output=True, check=False)
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, took


def medians(arguments: Sequence[str], folder: Path) -> tuple[float, float]:
    """Both, medians of the rounds that come after one that compiles and fills caches."""
    seconds(arguments, folder)
    cpu, clock = zip(*(seconds(arguments, folder) for _ in range(ROUNDS)), strict=True)
    return statistics.median(cpu), statistics.median(clock)


def median(arguments: Sequence[str], folder: Path) -> float:
    """Median CPU seconds."""
    return medians(arguments, folder)[0]


def rows(folder: Path) -> list[tuple[str, str, str]]:
    """What was run, its CPU seconds and their bound."""
    python, upstream = median(("-c", "pass"), folder), median(("-c", UPSTREAM), folder)
    package = median(("-c", "import clip_lens_plugin"), folder)
    ratio = statistics.median(float(printed(BOTH, folder)) for _ in range(ROUNDS))
    found = [
        ("python -c pass", f"{python:.2f}", ""),
        (UPSTREAM, f"{upstream:.2f}", ""),
        ("import clip_lens_plugin, beyond Python", f"{package - python:.2f}", "0.10"),
        ("from clip_lens_plugin import HookedCLIP", f"{ratio:.3f} x", "1.02 x the two above"),
    ]
    for arguments in ((), ("--help",), ("--version",), ("nonsense",), ("ablate", "--nonsense"), ("ablate", "--help")):
        took = median((*COMMAND, *arguments), folder)
        found.append((" ".join(("clip-lens", *arguments)), f"{took:.2f}", "0.40"))
    cpu, clock = medians((*COMMAND, "report", "--out", str(folder / "report"), "--device", "cpu"), folder)
    return [
        *found,
        ("clip-lens report", f"{cpu:.2f}", "10.00"),
        ("clip-lens report, by the clock", f"{clock:.2f}", "10.00"),
    ]


def main() -> None:
    """Measures everything and prints one table."""
    table = Table("what", "CPU seconds", "bound")
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder)):
            table.add_row(*row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
