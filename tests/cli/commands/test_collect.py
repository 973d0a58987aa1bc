"""What ``collect`` keeps and tells, how it is resumed, and what ends it in one line."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.cli import SCENES_SEED
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.scenes.attributes import sample_scenes
from clip_lens_plugin.scenes.dataset import ScenesDataset

pytestmark = pytest.mark.slow


@pytest.fixture
def pictures(tmp_path):
    """Two class folders of three pictures each."""
    rng = np.random.default_rng(0)
    for name in ("grey_cat/1", "grey_cat/2", "grey_cat/3", "dog/1", "dog/2", "dog/3"):
        path = tmp_path / "pictures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pictures"


def test_drawn_scenes_are_the_default_and_rows_are_those_of_the_model(tmp_path, run, scenes_model):
    out = tmp_path / "out"
    result = run("collect", "--out", out, "--limit", 12, "--attribute", "colour", "--dtype", "float32")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n"
    assert "12 samples" in result.stderr
    assert "12 labels of 8 classes (ablate)" in result.stderr
    assert "cannot answer" not in result.stderr
    assert result.stderr.splitlines()[-1] == f"next: clip-lens report {out}"
    store = ContributionStore.open(out, scenes_model)
    assert f"relative error of {store.completeness_error:.1e}" in result.stderr
    colours = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink")
    scenes = sample_scenes(12, SCENES_SEED)
    assert store.labels.tolist() == [colours.index(scene.colour) for scene in scenes]
    dataset = ScenesDataset(12, SCENES_SEED)
    with torch.no_grad():
        own = scenes_model.clip.encode_image(torch.stack([scenes_model.preprocess(dataset[i]) for i in range(12)]))
    torch.testing.assert_close(store[:].embedding, own, atol=1e-5, rtol=1e-4)


def test_at_most_twenty_skipped_samples_are_listed_and_none_is_markup(tmp_path, run, pictures):
    for i in range(22):
        (pictures / "dog" / f"[bold]{i:02d}.png").write_bytes(b"broken")
    result = run("collect", pictures, "--out", tmp_path / "out")
    assert result.exit_code == 3, result.stderr
    assert "6 samples" in result.stderr
    assert "79% of the samples were skipped" in result.stderr
    assert re.search(r"reason +┃ samples", result.stderr)
    assert "│ 22 " in result.stderr
    assert "22 skipped" in result.stderr
    assert "dog/[bold]19.png" in result.stderr
    assert "dog/[bold]20.png" not in result.stderr
    assert "and 2 more" in result.stderr


def test_the_next_command_has_the_pictures_that_the_store_does_not_find(tmp_path, run, pictures):
    for out, given in ((tmp_path / "out", []), (tmp_path / "far" / "off" / "out", ["--images", str(pictures)])):
        line = run("collect", pictures, "--out", out).stderr.splitlines()[-1]
        assert line.split() == ["next:", "clip-lens", "report", str(out), *given]
        page = run(*line.split()[2:], "--out", tmp_path / "page")
        assert "not in reach" not in page.stderr, page.stderr
    moments = run("collect", pictures, "--out", tmp_path / "far" / "off" / "moments", "--what", "moments")
    assert moments.stderr.splitlines()[-1] == f"next: clip-lens textspan {tmp_path / 'far' / 'off' / 'moments'}"


def test_strict_stops_at_a_broken_file(tmp_path, run, pictures):
    (pictures / "dog" / "0.png").write_bytes(b"broken")
    result = run("collect", pictures, "--out", tmp_path / "out", "--strict")
    assert result.exit_code == 2
    assert "'dog/0.png' cannot be read" in result.stderr
    assert ".;" not in result.stderr


def test_limit_takes_evenly_spaced_samples_and_keeps_all_classes(tmp_path, run, pictures, scenes_model):
    result = run("collect", pictures, "--out", tmp_path / "out", "--limit", 2)
    assert result.exit_code == 0, result.stderr
    store = ContributionStore.open(tmp_path / "out", scenes_model)
    assert store.names == ("dog/1.png", "grey_cat/1.png")
    assert store.classes == ("dog", "grey_cat")


def test_options_of_precision_reach_the_store(tmp_path, run):
    options = ("--what", "moments", "--precision", "bfloat16", "--autocast", "bfloat16", "--batch-size", 4)
    result = run("collect", "--out", tmp_path / "out", "--limit", 6, *options)
    assert result.exit_code == 0, result.stderr
    model = HookedCLIP.from_pretrained("scenes", device="cpu", dtype=torch.bfloat16)
    plan = ContributionStore.open(tmp_path / "out", model).plan
    assert (plan.what, plan.fingerprints.dtype, plan.autocast, plan.batch_size) == (
        "moments",
        "bfloat16",
        "bfloat16",
        4,
    )


def test_ctrl_c_is_one_line_and_resume_goes_on(tmp_path, run, monkeypatch, scenes_model):
    asked = []
    read = ScenesDataset.__getitem__

    def interrupted_read(self, position):
        asked.append(position)
        if position == 270 and asked.count(270) == 1:
            raise KeyboardInterrupt
        return read(self, position)

    monkeypatch.setattr(ScenesDataset, "__getitem__", interrupted_read)
    arguments = ("collect", "--out", tmp_path / "out", "--limit", 280, "--what", "moments")
    stopped = run(*arguments)
    assert stopped.exit_code == 130
    assert stopped.stdout == ""
    assert stopped.stderr.splitlines()[-1] == "interrupted; 256 of 280 samples are kept; go on with --resume"
    assert run(*arguments).exit_code == 2
    result = run(*arguments, "--resume")
    assert result.exit_code == 0, result.stderr
    assert asked.count(0) == 1
    assert len(ContributionStore.open(tmp_path / "out", scenes_model)) == 280


def test_late_heads_are_kept_when_asked_for(tmp_path, run, refused, scenes_model):
    out = tmp_path / "out"
    result = run("collect", "--out", out, "--limit", 4, "--what", "moments", "--heads", "late")
    assert result.exit_code == 0, result.stderr
    n_layers = scenes_model.cfg.n_layers
    assert ContributionStore.open(out, scenes_model).moments.layers == tuple(range(n_layers - 4, n_layers))
    assert "Collect with --heads all." in refused("textspan", out, "--out", tmp_path / "t", "--heads", "all")


def test_sigterm_is_taken_for_ctrl_c(tmp_path, run, monkeypatch):
    read = ScenesDataset.__getitem__

    def terminated(self, position):
        if position == 270:
            os.kill(os.getpid(), signal.SIGTERM)
        return read(self, position)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ScenesDataset, "__getitem__", terminated)
    stopped = run("collect", "--out", tmp_path / "out", "--limit", 280, "--what", "moments")
    assert stopped.exit_code == 130
    assert "256 of 280 samples are kept" in stopped.stderr
    assert signal.getsignal(signal.SIGTERM) is before


def test_two_processes_share_the_work_and_the_first_speaks(tmp_path, run, monkeypatch, scenes_model):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    arguments = ["collect", "--out", str(tmp_path / "out"), "--what", "moments", "--limit", "260"]
    command = [sys.executable, "-m", "clip_lens_plugin", *arguments, "--device", "cpu"]
    environment = {**os.environ, **common, "RANK": "1", "LOCAL_RANK": "1"}
    second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    for name, value in {**common, "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    first = run(*arguments)
    stdout, stderr = second.communicate(timeout=60)
    assert (first.exit_code, second.returncode) == (0, 0), first.stderr + stderr
    assert first.stdout == f"{tmp_path / 'out'}\n"
    assert "260 samples" in first.stderr
    assert stdout == ""
    assert "260 samples" not in stderr
    assert len(ContributionStore.open(tmp_path / "out", scenes_model)) == 260


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MISSING"], "There is no folder MISSING"),
        (["EMPTY"], "holds no image files"),
        (["missing-{0..1}.tar"], "There is no shard"),
        (["s3://bucket/folder"], "is no .tar file"),
        (["--attribute", "smell"], "got 'smell'"),
        (["EMPTY", "--attribute", "colour"], "is for drawn scenes"),
        (["--model", "ViT-B-61"], "Unknown model 'ViT-B-61'"),
        (["--limit", "4", "--out", "EMPTY/FILE"], "is a file, expected a folder"),
        (["--limit", "4", "--out", "EMPTY/FILE/x"], "EMPTY/FILE is no folder. Name a place"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, monkeypatch, refused, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "EMPTY" / "FILE").write_text("")
    assert message in refused("collect", "--out", "out", *arguments)


def test_an_activation_that_is_not_finite_is_one_line(tmp_path, run, monkeypatch):
    read = ScenesDataset.__getitem__

    def huge(self, position):
        _, label = read(self, position)
        tensor = torch.full((3, 56, 56), 3e38 if position == 1 else 0.0)
        return tensor, label

    monkeypatch.setattr(ScenesDataset, "__getitem__", huge)
    result = run("collect", "--out", tmp_path / "out", "--limit", 3)
    assert result.exit_code == 2, result.exception
    assert "'00000001' gives NaN or infinite activations" in " ".join(result.stderr.split())
