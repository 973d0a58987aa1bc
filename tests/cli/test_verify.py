"""``clip-lens verify``: a probe, a folder of pictures or a collection, and a model that is not its source's."""

from __future__ import annotations

import json
import re

import pytest
import torch
from PIL import Image

from clip_lens_plugin.adapters.transformers import HuggingFaceCLIP
from clip_lens_plugin.collection import ContributionStore
from tests.adapters.conversion import clip_model
from tests.conftest import random_clip


def test_probe(run):
    result = run("verify")
    assert result.exit_code == 0, result.output
    found = re.search(
        r"scenes: embedding equal to the source's own to (\S+) on one probe image \(float32", result.stdout
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


def test_collection_of_an_earlier_version(scenes_store, scenes_model, tmp_path):
    """Without the record it opens, and says that there is none."""
    import shutil

    copied = shutil.copytree(scenes_store, tmp_path / "store")
    description = json.loads((copied / "zarr.json").read_text())
    del description["attributes"]["clip_lens_finished"]["verified"]
    (copied / "zarr.json").write_text(json.dumps(description))
    assert ContributionStore.open(copied, scenes_model).verified is None


def test_nothing_there(refused, tmp_path):
    assert "missing" in refused("verify", tmp_path / "missing")


def test_another_model_is_one_line(refused, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A model whose own method gives something else ends the command, with the place where they part."""
    clip_model(random_clip()).save_pretrained(tmp_path / "clip")
    monkeypatch.setattr(HuggingFaceCLIP, "encode_image", lambda self, images: torch.ones(len(images), 24))
    line = refused("verify", "--model", f"transformers:{tmp_path / 'clip'}")
    assert "part first at the pooling or the projection" in line
