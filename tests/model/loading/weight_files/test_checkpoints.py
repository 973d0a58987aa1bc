"""Checkpoints as training code writes them give the model's own embedding, and say how; others are refused."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip import factory
from safetensors.torch import save_file
from torch import nn

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.model.loading import ModelNotFoundError
from tests.conftest import TEXT_CFG, random_clip, random_images
from tests.model.loading.test_by_name import CONFIG, distance

pytestmark = pytest.mark.slow

STATE = random_clip(seed=5).state_dict()
IMAGES = {name.removeprefix("visual."): weight for name, weight in STATE.items() if name.startswith("visual.")}
OPTIMIZER = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4)}}, "param_groups": [{"lr": 0.1}]}
ARGS = argparse.Namespace(lr=1e-3, model="ViT-B-32", betas=(0.9, 0.98), out=Path("runs"))


def prefixed(prefix: str, state: dict = STATE) -> dict:
    return {f"{prefix}{name}": weight for name, weight in state.items()}


WRAPPED = {
    "ddp": (prefixed("module."), "module. taken off"),
    "compiled": (prefixed("_orig_mod."), "_orig_mod. taken off"),
    "nested": (prefixed("module._orig_mod."), "_orig_mod. and module. taken off"),
    "lightning": (
        {"state_dict": {**prefixed("model."), "loss.weight": torch.ones(3)}},
        "1 other weight left out (loss.",
    ),
    "deeper": ({"model": {"state_dict": prefixed("clip_model.")}}, "clip_model. taken off"),
    "trainer": ({"model_state_dict": STATE, "optimizer_state_dict": OPTIMIZER, "epoch": 3}, "optimizer_state_dict"),
    "namespace": ({"model": STATE, "args": ARGS, "best": np.float64(0.4)}, "weights taken from 'model'"),
    "compiled inside": (
        {name.replace("visual.", "visual._orig_mod.", 1): weight for name, weight in STATE.items()},
        "_orig_mod. taken off",
    ),
    "mixed": ({**STATE, "epoch": 3}, "1 entry without a tensor left out (epoch)"),
}


def saved(held: object, path: Path) -> Path:
    torch.save(held, path)
    return path


def same_images(model: HookedCLIP, seed: int = 5) -> None:
    images = random_images(model)
    assert distance(model(images), random_clip(seed=seed).encode_image(images)) < 1e-6


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappings_are_taken_off_and_said(kind, tiny_name, tmp_path, load_noting) -> None:
    held, said = WRAPPED[kind]
    model, (note,) = load_noting(tiny_name, saved(held, tmp_path / "w.pt"))
    assert said in note
    same_images(model)
    tokens = open_clip.get_tokenizer("ViT-B-32")(["a dog"])
    assert distance(model.encode_text("a dog"), random_clip(seed=5).encode_text(tokens, normalize=True)) < 1e-6


def test_a_plain_file_is_loaded_without_a_word(tiny_name, tmp_path, load_noting) -> None:
    model, notes = load_noting(tiny_name, saved(STATE, tmp_path / "w.pt"))
    assert notes == []
    same_images(model)


def test_safetensors_under_another_suffix(tiny_name, tmp_path, load_noting) -> None:
    save_file(STATE, tmp_path / "w.bin")
    same_images(load_noting(tiny_name, tmp_path / "w.bin")[0])


@pytest.mark.parametrize("prefix", ["", "visual.", "module.visual.", "encoder."])
def test_an_image_tower_alone_embeds_images_and_refuses_texts(prefix, tiny_name, tmp_path, load_noting) -> None:
    model, (note,) = load_noting(tiny_name, saved(prefixed(prefix, IMAGES), tmp_path / "w.pt"))
    assert "it holds no text tower, so texts are refused" in note
    same_images(model)
    assert model.decompose(random_images(model)).completeness_error() < 1e-5
    with pytest.raises(ModelNotFoundError, match="those of an image tower alone, so it has no texts"):
        model.encode_text("a dog")
    with pytest.raises(ValueError, match="no logit scale"):
        _ = model.logit_scale


def test_the_state_dict_of_openais_archive_loads(tiny_name, tmp_path, load_noting, refused) -> None:
    """The archive is a program and is refused; the line that the message gives makes a file that loads."""

    class Archive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, size in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
                self.register_buffer(name, torch.tensor(size))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.context_length

    archive = Archive()
    for name, weight in STATE.items():
        *path, last = name.split(".")
        place: nn.Module = archive
        for part in path:
            if not hasattr(place, part):
                place.add_module(part, nn.Module())
            place = getattr(place, part)
        place.register_buffer(last, weight.clone())
    path = tmp_path / "ViT-B-32.pt"
    torch.jit.trace(archive, torch.ones(2)).save(str(path))
    message = refused(tiny_name, path)
    assert "TorchScript archive, which is a program" in message
    line = f"torch.save(torch.jit.load({str(path)!r}, map_location='cpu').state_dict(), 'weights.pt')"
    assert line in message
    exec(line.replace("'weights.pt'", repr(str(tmp_path / "weights.pt"))))
    same_images(load_noting(tiny_name, tmp_path / "weights.pt")[0])


def test_a_logit_bias_in_the_file_is_kept(tiny_name, tmp_path, load_noting) -> None:
    held = {**STATE, "logit_bias": torch.tensor([-9.5])}
    model, notes = load_noting(tiny_name, saved(held, tmp_path / "w.pt"))
    assert notes == []
    assert float(model.clip.logit_bias.detach()) == pytest.approx(-9.5)


def test_a_logit_bias_that_is_missing_is_said(monkeypatch, tmp_path, load_noting) -> None:
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-biased", {**CONFIG, "init_logit_bias": -10})
    model, (note,) = load_noting("tiny-biased", saved(STATE, tmp_path / "w.pt"))
    assert "no logit_bias" in note
    assert float(model.clip.logit_bias.detach()) == 0


# ---------------------------------------------------------------------- sizes


def test_a_resized_position_embedding_is_said_and_is_open_clips(tiny_name, tmp_path, load_noting) -> None:
    large = random_clip({"vision_cfg": {"image_size": 48}}, seed=6)
    path = saved(large.state_dict(), tmp_path / "large.pt")
    model, (note,) = load_noting(tiny_name, path)
    assert "of images of 48 x 48 pixels (6 x 6 patches) and was resized to 4 x 4 patches" in note
    theirs = random_clip()
    open_clip.load_checkpoint(theirs, str(path))
    images = random_images(model)
    assert distance(model(images), theirs.encode_image(images)) < 1e-6
    assert "force_image_size=48" in note
    model, notes = load_noting(tiny_name, path, force_image_size=48)
    assert notes == []
    assert model.cfg.image_size == (48, 48)
    images = random_images(model)
    assert distance(model(images), large.encode_image(images)) < 1e-6
    assert model.preprocess is not None
    assert "48" in repr(model.preprocess)


def test_a_forced_size_is_open_clips_and_said(tiny_name, tmp_path, load_noting) -> None:
    path = saved(STATE, tmp_path / "w.pt")
    model, (note,) = load_noting(tiny_name, path, force_image_size=(64, 32))
    theirs = open_clip.create_model(tiny_name, str(path), force_image_size=(64, 32)).eval()
    images = random_images(model)
    assert images.shape[-2:] == (64, 32)
    assert distance(model(images), theirs.encode_image(images)) < 1e-6
    assert "resized to 8 x 4 patches" in note


def test_sizes_that_open_clip_would_read_in_the_wrong_order(tiny_name, tmp_path) -> None:
    path = saved(STATE, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="read it in the wrong order"):
        HookedCLIP.from_pretrained(tiny_name, path, device="cpu", force_image_size=(16, 64))
    with pytest.raises(ValueError, match="smaller than one patch"):
        HookedCLIP.from_pretrained(tiny_name, path, device="cpu", force_image_size=4)


def test_half_precision_is_resized(tiny_name, tmp_path, load_noting) -> None:
    large = random_clip({"vision_cfg": {"image_size": 48}}, seed=6).half()
    _, (note,) = load_noting(tiny_name, saved(large.state_dict(), tmp_path / "large.pt"))
    assert "resized" in note


def test_a_resized_text_position_embedding_is_said(tiny_name, tmp_path, load_noting) -> None:
    longer = {**STATE, "positional_embedding": torch.randn(100, 32)}
    _, (note,) = load_noting(tiny_name, saved(longer, tmp_path / "w.pt"))
    assert "text position embedding of 100 tokens was resized to 77" in note


# ---------------------------------------------------------------------- what is refused


class Elsewhere:
    """A class of somebody's training code."""


REFUSED = {
    "lora": (prefixed("base_model.model.") | {"a.lora_A.weight": torch.ones(2, 2)}, "LoRA's or another adapter's"),
    "int8": ({**STATE, "visual.conv1.weight": torch.ones(4, 4, dtype=torch.int8)}, "quantised weights (visual.conv1"),
    "bitsandbytes": ({**STATE, "visual.a.weight.absmax": torch.ones(4)}, "quantised weights"),
    "zero3": ({"module": prefixed("", dict.fromkeys(STATE, torch.zeros(0)))}, "zero_to_fp32.py"),
    "averaged only": ({"ema": STATE}, "holds a running mean of weights (ema) and no weights"),
    "two models": (prefixed("student.") | prefixed("teacher."), "several models, under 'student.' and 'teacher.'"),
    "nothing": ({"epoch": 3}, "holds no weights: its keys are epoch"),
    "a list": ([1, 2], "holds a list, expected a state dict"),
    "other objects": (
        {"model": STATE, "config": Elsewhere()},
        "objects of tests.model.loading.weight_files.test_checkpoints.Elsewhere",
    ),
    "another library": ({f"vision_model.{i}": torch.ones(1) for i in range(3)}, "Hugging Face's names"),
    "resnet": ({f"layer1.{i}.weight": torch.ones(1) for i in range(3)}, "it is of another architecture"),
    "a head besides": ({**STATE, "fc.weight": torch.ones(3)}, "1 is not of this architecture (fc.weight)"),
    "a module": (nn.Linear(2, 2), "torch.save(model.state_dict(), 'weights.pt')"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_holds_no_plain_weights_is_refused(kind, tiny_name, tmp_path, refused) -> None:
    held, said = REFUSED[kind]
    path = saved(held, tmp_path / "w.pt")
    message = refused(tiny_name, path)
    assert f"The checkpoint tiny-test {path} " in message
    assert said in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"GGUF\x03", "GGUF"),
        (json.dumps({"weight_map": {"a": "b"}}).encode(), "lists the shards"),
        (b"\x80\x02cos\nsystem\n", "could not be loaded"),
        (b"PK\x03\x04", "could not be loaded"),
    ],
)
def test_files_of_other_kinds(content, said, tiny_name, tmp_path, refused) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    assert said in refused(tiny_name, path)


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("open_clip_config.json", "'local-dir:"),
        ("config.json", "'transformers:"),
        ("__0_0.distcp", "dcp_to_torch"),
        ("zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_to_fp32.py"),
        ("anything", "give the file with the weights"),
    ],
)
def test_folders(inside, said, tiny_name, tmp_path, refused) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / inside).touch()
    assert said in refused(tiny_name, tmp_path / "folder")


def test_one_shard_of_several(tiny_name, tmp_path, refused) -> None:
    save_file(STATE, tmp_path / "model-00001-of-00002.safetensors")
    assert "is one shard of several" in refused(tiny_name, tmp_path / "model-00001-of-00002.safetensors")


# ---------------------------------------------------------------------- machine and network


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        OSError(28, "No space left on device"),
        PermissionError(13, "Permission denied"),
        KeyboardInterrupt(),
    ],
)
@pytest.mark.parametrize("place", ["download_pretrained", "create_model"])
def test_the_machines_errors_are_its_own(error, place, tiny_b32, monkeypatch, tmp_path) -> None:
    """Also where a library wraps them, as open_clip does around a download."""

    def fail(*_, **__):
        try:
            raise error
        except Exception as caught:
            raise FileNotFoundError(f"Failed to download file. Last error: {caught}") from caught

    if place == "create_model":
        path = saved(STATE, tmp_path / "w.pt")
        monkeypatch.setattr(factory, "download_pretrained", lambda *_, **__: str(path))
        monkeypatch.setattr(open_clip, "create_model", fail)
    else:
        monkeypatch.setattr(factory, place, fail)
    with pytest.raises(type(error)) as caught:
        HookedCLIP.from_pretrained(tiny_b32, "openai", device="cpu")
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("unreachable"), "could not be downloaded"),
        (TimeoutError("timed out"), "could not be downloaded"),
        (RuntimeError("the SHA256 checksum does not match"), "it is not the network: the SHA256 checksum"),
    ],
)
def test_the_network_is_distinguished_from_everything_else(error, said, tiny_b32, monkeypatch, refused) -> None:
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(factory, "download_pretrained", fail)
    assert said in refused(tiny_b32, "openai")


def test_several_files_in_a_folder_are_said(tmp_path, load_noting) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
    save_file(STATE, tmp_path / "epoch_1.safetensors")
    save_file(random_clip(seed=7).state_dict(), tmp_path / "epoch_2.safetensors")
    logging.disable(logging.NOTSET)
    model, (note,) = load_noting(f"local-dir:{tmp_path}")
    assert "epoch_1.safetensors was read, not epoch_2.safetensors" in note
    same_images(model)
    same_images(load_noting(f"local-dir:{tmp_path}", checkpoint=tmp_path / "epoch_2.safetensors")[0], seed=7)


TIMM = {
    "embed_dim": 24,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 224,
        "timm_model_name": "vit_tiny_patch16_224",
        "timm_pool": "token",
        "timm_proj": "linear",
    },
    "text_cfg": TEXT_CFG,
}


def test_a_timm_tower_takes_a_forced_size_and_its_state_dict_alone(monkeypatch, tmp_path, load_noting, refused) -> None:
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-timm", TIMM)
    torch.manual_seed(0)
    clip = open_clip.create_model("tiny-timm").eval()
    path = saved(clip.state_dict(), tmp_path / "w.pt")
    model, (note,) = load_noting("tiny-timm", path, force_image_size=64)
    theirs = open_clip.create_model("tiny-timm", str(path), force_image_size=64).eval()
    images = random_images(model)
    assert images.shape[-2:] == (64, 64)
    assert distance(model(images), theirs.encode_image(images)) < 1e-6
    assert "resized from images of (224, 224) pixels to (64, 64)" in note
    assert "64" in repr(model.preprocess)
    model, (note,) = load_noting("tiny-timm", saved(clip.visual.state_dict(), tmp_path / "image.pt"))
    images = random_images(model, 1)
    assert distance(model(images), clip.encode_image(images)) < 1e-6
    saved(theirs.state_dict(), tmp_path / "small.pt")
    message = refused("tiny-timm", tmp_path / "small.pt")
    assert "visual.trunk.pos_embed [1, 17, 192] instead of [1, 197, 192]" in message
    assert "of images of about 64 x 64 pixels" in message
