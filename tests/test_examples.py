"""The examples run on the embedded model."""

from __future__ import annotations

import runpy
from pathlib import Path


def test_which_head_reads_colour():
    path = Path(__file__).parent.parent / "examples" / "which_head_reads_colour.py"
    found = runpy.run_path(str(path))["main"]()
    assert found["model"] > 0.95
    assert min(found["direct effect"], found["total effect"]) < found["model"]
