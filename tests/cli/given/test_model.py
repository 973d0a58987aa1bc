"""Every command that takes a model takes the same options for it, and gives them on as they were said."""

from __future__ import annotations

import inspect
import io
import warnings
from dataclasses import fields

import open_clip
import pytest
import torch
import typer
from PIL import Image
from rich.console import Console

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.cli import app
from clip_lens_plugin.cli.given.model import ModelChoice
from tests.conftest import random_clip
from tests.model.loading.test_by_name import CONFIG

OPTIONS = {
    "--model",
    "--pretrained",
    "--checkpoint",
    "--force-quick-gelu",
    "--force-image-size",
    "--image-mean",
    "--image-std",
    "--image-interpolation",
    "--image-resize-mode",
    "--tokenizer",
    "--device",
}


def options_of(command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def test_every_command_with_a_model_has_every_option() -> None:
    commands = typer.main.get_command(app).commands
    taking = {name for name, command in commands.items() if "--model" in options_of(command)}
    assert taking >= {"report", "collect", "textspan", "ablate", "heatmap", "verify"}
    for name in taking:
        assert options_of(commands[name]) >= OPTIONS, name


def test_every_keyword_of_from_pretrained_is_an_option() -> None:
    keywords = {f"--{name.replace('_', '-')}" for name in inspect.signature(HookedCLIP.from_pretrained).parameters}
    assert keywords - {"--name", "--dtype"} <= OPTIONS
    assert len(fields(ModelChoice)) == len(OPTIONS)


def test_what_was_said_reaches_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", CONFIG)
    path = tmp_path / "w.pt"
    torch.save({"state_dict": random_clip().state_dict()}, path)
    shown = Console(file=io.StringIO(), width=1000)
    choice = ModelChoice(
        model="ViT-B-32",
        pretrained="openai",
        checkpoint=path,
        image_size="64x32",
        image_mean=(0.1, 0.2, 0.3),
        image_std=(0.4, 0.5, 0.6),
        image_interpolation="bilinear",
        image_resize_mode="squash",
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = choice.load(shown, torch.float64)
    assert (model.cfg.act_fn, model.cfg.image_size, model.cfg.dtype) == ("quick_gelu", (64, 32), torch.float64)
    settings = model.clip.visual.preprocess_cfg
    expected = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bilinear", "resize_mode": "squash"}
    assert {name: settings[name] for name in expected} == expected
    first, second = shown.file.getvalue().splitlines()
    assert first.startswith("note: ViT-B-32 openai w.pt: read from w.pt so: weights taken from 'state_dict'")
    assert "resized to 8 x 4 patches" in second
    forced = ModelChoice(model="ViT-B-32", pretrained="laion2b_e16", checkpoint=path, quick_gelu=True, device="cpu")
    assert forced.load(shown).cfg.act_fn == "quick_gelu"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--force-image-size", "wide"], "--force-image-size is a number of pixels or HEIGHTxWIDTH"),
        (["--image-std", "0", "1", "1"], "clip-lens: --image-std must be above 0"),
        (["--checkpoint", "missing.pt"], "--checkpoint: there is no such file missing.pt"),
        (["--tokenizer", "missing"], "there is no folder missing"),
    ],
)
def test_values_that_no_option_has(refused, tmp_path, options, said) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    assert said in refused("heatmap", tmp_path / "a.png", "--text", "a red disc", *options)


def test_memory_that_runs_out_is_not_a_missing_download(refused, tmp_path, monkeypatch) -> None:
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(open_clip, "create_model", fail)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    message = refused("heatmap", tmp_path / "a.png", "--text", "a red disc")
    assert "no memory for scenes: CUDA out of memory" in message
    assert "download" not in message
