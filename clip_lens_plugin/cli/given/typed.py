"""The command line that this process was started with."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

PROGRAMS = ("clip-lens", "clip-lens.exe", "__main__.py")
"""Files that run the command: the script that pip installs, and ``python -m clip_lens_plugin``."""


def command_line() -> str | None:
    """What was typed, to be typed again; None where the command is called from within another program."""
    program, *arguments = sys.argv or [""]
    return shlex.join(["clip-lens", *arguments]) if Path(program).name in PROGRAMS else None
