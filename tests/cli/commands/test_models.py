"""The list of models on the command line."""

from __future__ import annotations

import io

import open_clip
import pytest
from rich.console import Console
from typer.testing import CliRunner

from clip_lens_plugin.cli import app
from clip_lens_plugin.cli.commands.models import START, _print_start
from clip_lens_plugin.model.catalogue import catalogue


def test_a_part_of_a_name_chooses_and_the_sums_are_said(monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    result = CliRunner().invoke(app, ["models", "vitamin-s-lt"])
    assert result.exit_code == 0, result.output
    printed = " ".join(result.output.split())
    assert "ViTamin-S-LTT" in printed
    assert "not supported: timm VisionTransformer, ViTamin" in printed
    assert "0 of 1 models are supported, and 0 of their" in printed


def test_where_to_start_comes_first(monkeypatch):
    listed = catalogue("coca_ViT-L-14", lambda done, total: None)
    monkeypatch.setattr("clip_lens_plugin.model.catalogue.catalogue", lambda contains, on_progress: listed)
    lines = CliRunner().invoke(app, ["models"]).stdout.splitlines()
    assert lines[0].startswith("Where to start")
    assert sum(line.strip().startswith("--model") for line in lines[:7]) == len(START)
    assert any(line.startswith("coca_ViT-L-14") for line in lines[7:])


def test_no_such_model_ends_in_one_line():
    result = CliRunner().invoke(app, ["models", "no such model"])
    assert result.exit_code == 2
    assert "no model with 'no such model'" in result.output


def test_a_table_fits_a_file_and_one_model_shows_its_tags(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    result = CliRunner().invoke(app, ["models", "siglip-i18n"])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    row = next(line for line in result.stdout.splitlines() if line.startswith("ViT-B-16-SigLIP-i18n-256"))
    assert row.split() == ["ViT-B-16-SigLIP-i18n-256", "12", "12", "768", "16", "1", "ViT,", "attention", "pool"]
    assert result.stderr.endswith("next: clip-lens models ViT-B-16-SigLIP-i18n-256\n")
    one = CliRunner().invoke(app, ["models", "vit-b-16-siglip-I18N-256"])
    assert one.stdout.splitlines()[:2] == [
        "ViT-B-16-SigLIP-i18n-256",
        "timm ViT, attention pool: 12 layers of 12 heads, 768 wide, patches of 16 x 16 pixels",
    ]
    assert one.stdout.splitlines()[-1] == "  webli"
    assert one.stderr.endswith("--model ViT-B-16-SigLIP-i18n-256 --pretrained webli\n")


@pytest.mark.parametrize(("name", "tag", "purpose"), START)
def test_where_to_start_is_there_and_has_a_command(name, tag, purpose):
    assert tag in open_clip.list_pretrained_tags_by_model(name)
    shown = Console(file=io.StringIO(), width=80)
    _print_start(shown)
    assert f"{purpose}\n    --model {name} --pretrained {tag}\n" in shown.file.getvalue()
