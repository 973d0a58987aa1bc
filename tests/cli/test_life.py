"""A command's first sign of life."""

from __future__ import annotations

import gc
import io
import time
from contextlib import suppress

import pytest
from rich.console import Console

from clip_lens_plugin.cli import life
from clip_lens_plugin.cli.life import starting


def shown(terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with starting(console):
        if terminal:
            time.sleep(0.3)  # The line is drawn from another thread.
        return console.file.getvalue()


@pytest.mark.parametrize(("slowest", "rank", "said"), [("none_such", "0", 1), ("io", "0", 0), ("none_such", "1", 0)])
def test_it_comes_before_what_is_slow_and_from_one_process(monkeypatch, slowest, rank, said):
    monkeypatch.setattr(life, "SLOWEST", slowest)
    monkeypatch.setenv("RANK", rank)
    assert shown(terminal=False) == "clip-lens: starting\n" * said
    assert ("starting" in shown(terminal=True)) == bool(said)


@pytest.mark.parametrize(("slowest", "looked_for"), [("none_such", False), ("io", True)])
def test_no_garbage_is_looked_for_while_libraries_are_imported(monkeypatch, slowest, looked_for):
    monkeypatch.setattr(life, "SLOWEST", slowest)
    frozen = gc.get_freeze_count()
    try:
        with suppress(ImportError), starting(Console(file=io.StringIO())):
            assert gc.isenabled() is looked_for
            raise ImportError
        assert gc.isenabled()
        assert (gc.get_freeze_count() > frozen) is not looked_for
    finally:
        gc.unfreeze()
