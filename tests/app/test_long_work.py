"""Long work says how far it is, gives what it found or raised, and ends when nobody waits."""

from __future__ import annotations

import threading
import time

import pytest

from clip_lens_plugin.app import long_work
from clip_lens_plugin.app.frame import working
from clip_lens_plugin.app.long_work import Done, Working, worked
from clip_lens_plugin.bars import tracked


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_work, "SAY_EVERY", 0.01)


def test_how_far_it_is_and_what_it_found() -> None:
    go_on = threading.Event()

    def call() -> str:
        for _ in tracked(range(4), "counting", visible=False):
            pass
        go_on.wait(30)
        return "found"

    notes = []
    for now in worked(call, "beginning"):
        notes.append(now)
        if now == Working("counting", 1.0):
            go_on.set()
    assert notes[-1] == Done("found")
    assert set(notes[:-1]) <= {Working("beginning"), *(Working("counting", n / 4) for n in (1, 2, 3, 4))}


def test_what_is_raised_is_raised_here() -> None:
    def call() -> None:
        raise ValueError("no such head")

    with pytest.raises(ValueError, match="no such head"):
        list(worked(call, "looking"))


def test_it_ends_when_nobody_waits() -> None:
    steps: list[int] = []
    ended = threading.Event()

    def call() -> None:
        try:
            for step in tracked(range(10_000), "counting", visible=False):
                steps.append(step)
                time.sleep(0.005)
        finally:
            ended.set()

    notes = worked(call, "beginning")
    next(notes)
    notes.close()
    assert ended.wait(30)
    assert len(steps) < 10_000


def test_a_note_is_escaped() -> None:
    assert working(Working("<b>", 0.25)) == (
        '<p class="clip-lens-note" role="status">&lt;b&gt; <progress value="0.250"></progress></p>'
    )
    assert "<progress></progress>" in working(Working("reading"))
