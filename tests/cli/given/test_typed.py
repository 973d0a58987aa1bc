"""The command line of a report's foot: what was typed, and nothing where no command was."""

from __future__ import annotations

import sys

import pytest

from clip_lens_plugin.cli.given.typed import command_line


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (["/venv/bin/clip-lens", "report", "--images", "my photos"], "clip-lens report --images 'my photos'"),
        (["/site-packages/clip_lens_plugin/__main__.py", "report"], "clip-lens report"),
        (["/usr/bin/pytest", "-x"], None),
        ([""], None),
    ],
)
def test_what_was_typed(monkeypatch, argv, typed):
    monkeypatch.setattr(sys, "argv", argv)
    assert command_line() == typed
