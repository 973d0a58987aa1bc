"""``clip-lens verify``: a probe, a folder of pictures or a store, and a model that is not its source's."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from PIL import Image

from clip_lens_plugin.adapters.transformers_tower import HuggingFaceCLIP
from tests.adapters.conversion import clip_model
from tests.collection.stores import as_of_format, rewrite_plan
from tests.conftest import random_clip


def test_probe(run):
    result = run("verify")
    assert result.exit_code == 0, result.output
    found = re.search(
        r"scenes: embedding equal to the source's own to (\S+) on one probe image; texts to (\S+) \(float32",
        result.stdout,
    )
    assert found
    assert float(found[1]) < 1e-6


def test_folder_of_pictures(run, tmp_path):
    for number in range(3):
        Image.new("RGB", (70, 60), (80 * number, 20, 200)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    result = run("verify", tmp_path)
    assert result.exit_code == 0, result.output
    assert "skipped broken.png" in result.stdout
    assert "on 3 images" in result.stdout
    assert "on 2 images" in run("verify", tmp_path, "--limit", 2).stdout


def test_collection(run, scenes_store, opened):
    result = run("verify", scenes_store)
    assert result.exit_code == 0, result.output
    assert "collected with this model, 64 samples" in result.stdout
    assert f"when it was collected: {opened.verified}" in result.stdout
    assert opened.verified.relative_difference < 1e-6
    assert "now: embedding equal" in result.stdout


def test_every_file_of_a_collection_is_compared(run, scenes_store):
    n = sum(each.is_file() for each in scenes_store.rglob("*")) - 2  # The description has its own digest; the lock.
    assert f"{scenes_store}: all {n:,} files are as they were written\n" in run("verify", scenes_store).stdout


def test_damage_is_a_line_and_an_exit_code_and_needs_no_model(run, scenes_store, tmp_path):
    copied = shutil.copytree(scenes_store, tmp_path / "store")
    (copied / "clip_lens_plan.json").unlink()
    (copied / "mlps" / "c" / "0" / "1" / "0").write_bytes(b"junk")
    result = run("verify", copied, "--model", "ViT-B-61")
    assert result.exit_code == 4, result.output
    lines = result.stdout.splitlines()
    assert lines[0].endswith("clip_lens_plan.json (the plan) is damaged: it is not there")
    assert re.search(r"samples 0 to \d+ of 'mlps' are damaged \(mlps/c/0/1/0: ", lines[1])
    assert ": good: " in lines[2]
    assert "moments, " in lines[2]
    assert "'coordinates'" in lines[2]
    assert re.search(r"(?<!other )rows of 'mlps'", lines[2]) is None


def test_a_collection_of_another_model_is_compared_without_it(run, scenes_store, tmp_path):
    copied = shutil.copytree(scenes_store, tmp_path / "store")
    rewrite_plan(copied, lambda plan: (plan.pop("recipe"), plan.update(model_name="somebody's model")))
    result = run("verify", copied)
    assert result.exit_code == 0, result.output
    assert "files are as they were written" in result.stdout
    assert "not compared with its model: " in result.stdout
    assert "Give that: --model NAME, with --pretrained or --checkpoint" in result.stdout


def test_collection_of_an_earlier_version(run, scenes_store, tmp_path):
    """Without checksums it opens, and a line says so."""
    copied = shutil.copytree(scenes_store, tmp_path / "store")
    as_of_format(copied, 4)
    result = run("verify", copied)
    assert result.exit_code == 0, result.output
    assert "earlier version without checksums" in result.stdout
    assert "note: " in result.stderr
    (copied / "mlps" / "c" / "0" / "1" / "0").write_bytes(b"junk")
    result = run("verify", copied)
    assert result.exit_code == 4
    assert "of 'mlps' are damaged" in result.stdout


def test_nothing_there(refused, tmp_path):
    assert "missing" in refused("verify", tmp_path / "missing")


def test_another_model_is_one_line(refused, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A model whose own method gives something else ends the command, with the place where they part."""
    clip_model(random_clip()).save_pretrained(tmp_path / "clip")
    monkeypatch.setattr(HuggingFaceCLIP, "encode_image", lambda self, images: torch.ones(len(images), 24))
    line = refused("verify", "--model", f"transformers:{tmp_path / 'clip'}")
    assert "part first at the pooling or the projection" in line
