"""Training starts from a seed, goes on after an interruption as if there had been none, and writes what it measured."""

from __future__ import annotations

import json

import pytest
import torch
import typer
from safetensors.torch import load_file

from clip_lens_plugin.scenes import train as training
from clip_lens_plugin.scenes.accuracy import HELD_OUT_SEED

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(training, "BATCH_SIZE", 16)
    monkeypatch.setattr(training, "EVALUATED_SCENES", 20)
    monkeypatch.setattr(training, "CHECK_EVERY", 2)


def run(out, steps=6, seed=0):
    training.train(out=out, steps=steps, scenes=40, seed=seed, device="cpu")
    return load_file(out / "open_clip_model.safetensors")


def test_interrupted_run_ends_in_the_same_weights(tmp_path, monkeypatch):
    undisturbed = run(tmp_path / "one")
    make_batch = training.make_batch

    def interrupted(drawn, size, rng, step):
        if step == 3:
            raise KeyboardInterrupt
        return make_batch(drawn, size, rng, step)

    monkeypatch.setattr(training, "make_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "two")
    monkeypatch.setattr(training, "make_batch", make_batch)
    resumed = run(tmp_path / "two")
    assert all(torch.equal(resumed[name], undisturbed[name]) for name in undisturbed)
    assert not torch.equal(run(tmp_path / "three", seed=1)["visual.proj"], undisturbed["visual.proj"])


def test_what_was_measured_lies_beside_the_weights(tmp_path):
    run(tmp_path, steps=2)
    measured = json.loads((tmp_path / "measured.json").read_text())
    assert set(measured["zero_shot_accuracy"]) >= {"colour", "count"}
    assert measured["training"]["steps"] == 2
    assert measured["machine"]["torch"] == torch.__version__


def test_checkpoint_of_other_settings_and_late_changes_are_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(typer.BadParameter, match="was made with"):
        run(tmp_path, seed=1)
    with pytest.raises(typer.BadParameter, match="too late"):
        run(tmp_path, steps=20)
    with pytest.raises(typer.BadParameter, match="accuracy is measured"):
        run(tmp_path / "other", seed=HELD_OUT_SEED)


def test_cue_and_start_are_measured_and_settings_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CUE_SCENES", 300)
    first = run(tmp_path / "plain", steps=1)
    options = {"steps": 1, "scenes": 40, "seed": 1, "device": "cpu", "cue": 0.9, "start": tmp_path / "plain"}
    monkeypatch.setattr(training, "learning_rate", lambda step, steps: 0.0)
    training.train(out=tmp_path / "planted", **options)
    after = load_file(tmp_path / "planted" / training.WEIGHTS)
    same = {name for name, value in first.items() if name.startswith("visual.") and torch.equal(after[name], value)}
    assert same == {name for name in first if name.startswith("visual.")}
    assert not torch.equal(after["token_embedding.weight"], first["token_embedding.weight"])
    measured = json.loads((tmp_path / "planted" / "measured.json").read_text())
    assert measured["training"]["cue"] == 0.9
    assert measured["training"]["start"].startswith("sha256 ")
    groups = measured["cue"]["group_accuracy"]
    assert measured["cue"]["worst_group"] == min(groups.values())
    assert measured["cue"]["backgrounds"] == {"circle": "white", "square": "black"}
    assert len(groups) == 4
    with pytest.raises(typer.BadParameter, match="was made with"):
        training.train(out=tmp_path / "planted", **{**options, "cue": 0.8})


def test_learning_rate_rises_stays_and_falls():
    rates = [training.learning_rate(step, 4000) for step in range(4000)]
    assert rates[0] < rates[100] < rates[199] == rates[2999] == training.LEARNING_RATE
    assert rates[2999] > rates[3500] > rates[3999] > 0
    assert [training.learning_rate(s, 6000) for s in range(3000)] == rates[:3000]
