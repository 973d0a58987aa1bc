"""Help fits a terminal of 80 columns: no word is cut off, and no option's kind is broken between lines."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from clip_lens_plugin.cli import app

COMMANDS = [command.callback.__name__ for command in app.registered_commands if command.callback is not None]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_at_80_columns(monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, [*filter(None, [command]), "--help"]).stdout
    assert "Usage: " in shown
    assert "…" not in shown
    for line in shown.splitlines():
        assert len(line) <= 80
        plain = line.replace(">=", "")
        assert plain.count("<") == plain.count(">"), line
