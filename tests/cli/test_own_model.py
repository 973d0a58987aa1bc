"""Commands on a store take its own model; where that is out of reach, the line is the very options to give."""

from __future__ import annotations

import open_clip
import pytest
import torch

from tests.conftest import random_clip
from tests.model.loading.test_by_name import CONFIG

OWN = ("--model", "ViT-B-32", "--pretrained", "openai")


@pytest.fixture(autouse=True)
def small_b32(monkeypatch):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", CONFIG)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.save(random_clip().state_dict(), path)
    return path


@pytest.fixture
def collected(run, tmp_path, weights):
    """Moments of four scenes, in bfloat16, by a model from a file."""
    more = ("--checkpoint", weights, "--precision", "bfloat16", "--what", "moments", "--limit", 4)
    result = run("collect", "--out", tmp_path / "store", *OWN, *more)
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    explains = "how much of each head the classes explain (class_heads, in Python)"
    assert f"It can answer: what each head writes (textspan); {explains}." in lines
    assert any(line.startswith("It cannot answer") and "--what contributions" in line for line in lines)
    assert lines[-1] == f"next: clip-lens textspan {tmp_path / 'store'}"
    return tmp_path / "store"


def test_no_model_has_to_be_given(run, collected):
    result = run("verify", collected)
    assert "collected with this model, 4 samples" in result.stdout, result.output
    assert "bfloat16" in result.stdout
    again = run("collect", "--out", collected, "--what", "moments", "--limit", 4, "--resume")
    assert again.exit_code == 0, again.stderr
    assert "all 4 were there already" in again.stderr


def test_a_file_that_is_elsewhere_now(run, refused, collected, weights, tmp_path):
    moved = weights.rename(tmp_path / "m v.pt")
    try:
        options = f"{' '.join(OWN)} --checkpoint"
        advice = f"It was {options} {weights}. Where it is now: {options} PATH."
        assert refused("textspan", collected, "--out", tmp_path / "out").endswith(f"{advice}\n")
        assert advice in run("verify", collected).stdout
        assert "collected with this model" in run("verify", collected, "--checkpoint", moved).stdout
        other = run("verify", collected, "--model", "scenes")
        assert other.exit_code == 2
        assert "was collected with another model (ViT-B-32 openai w.pt)" in other.stderr
        assert f"Load that model, {options} {weights}, or" in other.stderr
    finally:
        moved.rename(weights)


def test_tags_are_few_and_the_rest_has_a_command(refused):
    line = refused("verify", "--model", "ViT-B-32", "--pretrained", "openia")
    assert "no pretrained tag 'openia', and there is no such file. Did you mean 'openai'? 5 of its " in line
    assert line.endswith("; all: clip-lens models ViT-B-32.\n")
    assert line.count("'laion") == 4
    line = refused("verify", "--model", "ViT-B-32")
    assert "--pretrained with one of its tags, or --checkpoint with the path of a checkpoint" in line
    assert "from_open_clip" not in line
