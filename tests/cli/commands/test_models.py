"""The list of models on the command line."""

from __future__ import annotations

from typer.testing import CliRunner

from clip_lens_plugin.cli import app


def test_a_part_of_a_name_chooses_and_the_sums_are_told(monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    result = CliRunner().invoke(app, ["models", "vitamin-s-lt"])
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "ViTamin-S-LTT" in told
    assert "not supported: timm VisionTransformer, ViTamin" in told
    assert "0 of 1 models are supported, and 0 of their" in told


def test_no_such_model_ends_in_one_line():
    result = CliRunner().invoke(app, ["models", "no such model"])
    assert result.exit_code == 2
    assert "no model with 'no such model'" in result.output
