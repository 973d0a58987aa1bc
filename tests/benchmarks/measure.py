"""What the benchmarks measure with: a process of its own for a case, and a clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping


def printed_last(module: str, *arguments: str, environment: Mapping[str, str] = os.environ) -> str:
    """The last line that ``python -m module arguments`` prints."""
    command = [sys.executable, "-m", module, *arguments]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return printed.splitlines()[-1]


def seconds(action: Callable[[], object]) -> float:
    """Wall-clock time of one run."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
