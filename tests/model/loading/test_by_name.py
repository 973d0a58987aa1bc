"""Loading by open_clip's own factory from checkpoints written here, and the message for what can go wrong."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from clip_lens_plugin.model.loading import ModelNotFoundError
from tests.conftest import TEXT_CFG, VISION_CFG, random_clip, random_images

pytestmark = pytest.mark.slow

CONFIG = {"embed_dim": 24, "vision_cfg": VISION_CFG, "text_cfg": TEXT_CFG}


def write_model(folder: Path, clip: nn.Module, config: dict | None = None) -> str:
    """A folder as open_clip itself publishes models; its name for ``from_pretrained``."""
    folder.mkdir(exist_ok=True)
    preprocess = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    config = {"model_cfg": config or CONFIG, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture
def tiny_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that open_clip's registry knows for the time of a test."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-test", CONFIG)
    return "tiny-test"


def refusal(name: str, pretrained: str | None = None, **kwargs) -> str:
    """The one-line message of the refusal."""
    with pytest.raises(ModelNotFoundError) as caught:
        HookedCLIP.from_pretrained(name, pretrained, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def distance(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())


# ---------------------------------------------------------------------- what loads


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(None, 1e-6), (torch.float64, 1e-5), (torch.float16, 3e-3), (torch.bfloat16, 2e-2)],
)
def test_a_folder_gives_the_saved_model(tmp_path: Path, dtype: torch.dtype | None, tolerance: float) -> None:
    clip = random_clip()
    model = HookedCLIP.from_pretrained(write_model(tmp_path / "mine", clip), dtype=dtype, device="cpu")
    images = random_images(model)
    with torch.no_grad():
        assert distance(model(images), clip.encode_image(images.float())) < tolerance
    tokens = open_clip.get_tokenizer("ViT-B-32")(["a dog"])
    assert distance(model.encode_text("a dog"), clip.encode_text(tokens, normalize=True)) < tolerance
    assert (model.cfg.model_name, model.cfg.dtype) == ("mine", dtype or torch.float32)
    assert model.ln_final.w.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert not any(module.training for module in model.modules())


def test_float64_is_exact(tmp_path: Path) -> None:
    clip = random_clip()
    model = HookedCLIP.from_pretrained(write_model(tmp_path, clip), dtype=torch.float64, device="cpu")
    images = random_images(model)
    assert distance(model(images), clip.double().encode_image(images)) < 1e-12


def test_the_preprocessing_of_the_folder_is_kept(tmp_path: Path) -> None:
    model = HookedCLIP.from_pretrained(write_model(tmp_path, random_clip()), device="cpu")
    pixels = model.preprocess(Image.new("RGB", (50, 40), (255, 0, 0)))
    assert pixels.shape == (3, 32, 32)
    torch.testing.assert_close(pixels[:, 3, 3], torch.tensor([1.8, -0.4, -0.6]))


@pytest.mark.parametrize("kind", ["pt", "safetensors", "wrapped"])
@pytest.mark.parametrize("spelling", ["tiny-test", "tiny/test"])
def test_a_state_dict_of_a_named_model(tiny_name: str, tmp_path: Path, kind: str, spelling: str) -> None:
    clip = random_clip(seed=3)
    path = tmp_path / f"weights.{'safetensors' if kind == 'safetensors' else 'pt'}"
    if kind == "safetensors":
        save_file(clip.state_dict(), path)
    elif kind == "pt":
        torch.save(clip.state_dict(), path)
    else:  # as open_clip's training saves it
        torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in clip.state_dict().items()}}, path)
    model = HookedCLIP.from_pretrained(spelling, str(path), device="cpu")
    images = random_images(model)
    assert distance(model(images), clip.encode_image(images)) < 1e-6
    assert model.cfg.model_name == f"{spelling} {path.name}"


@pytest.mark.parametrize("tag", ["laion2b_s34b_b79k", "LAION2B-S34B-B79K"])
def test_a_tag_is_downloaded_by_open_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    """The tag in any of open_clip's spellings; the download is replaced by a file written here."""
    clip = random_clip(seed=4)
    path = tmp_path / "w.safetensors"
    save_file(clip.state_dict(), path)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", CONFIG)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: str(tmp_path / "w.safetensors"))
    model = HookedCLIP.from_pretrained("ViT-B-32", tag, device="cpu")
    images = random_images(model)
    assert distance(model(images), clip.encode_image(images)) < 1e-6


@pytest.mark.parametrize("pretrained", [None, "openai", "no-such-tag"])
def test_a_listed_model_that_is_not_supported_is_refused_before_its_weights(pretrained, monkeypatch) -> None:
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *a, **k: pytest.fail("weights were fetched"))
    for name, why in (("RN50", "no residual stream"), ("convnext_base", "a trunk of timm's ConvNeXt")):
        with pytest.raises(
            UnsupportedTowerError, match=f"^{name} is not a supported model: .*{why}.* clip-lens models"
        ):
            HookedCLIP.from_pretrained(name, pretrained)


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize(("given", "meant"), [("ViT-B-61", "ViT-B-16"), ("vit-b-16", "ViT-B-16"), ("scene", "scenes")])
def test_an_unknown_name_suggests_the_nearest(given: str, meant: str) -> None:
    message = refusal(given, "openai")
    assert f"Unknown model {given!r}. Did you mean {meant!r}" in message
    assert "open_clip.list_models()" in message


def test_an_unknown_name_with_nothing_near() -> None:
    message = refusal("qqqqqqqq", "openai")
    assert "Did you mean" not in message
    assert "list_models" in message


def test_an_unknown_tag_suggests_the_nearest() -> None:
    message = refusal("ViT-B-32", "openia")
    assert "no pretrained tag 'openia'" in message
    assert "no such file" in message
    assert "Did you mean 'openai'" in message
    assert "'laion2b_s34b_b79k'" in message


def test_a_model_needs_weights() -> None:
    message = refusal("ViT-B-32")
    assert "'openai'" in message
    assert "path of a checkpoint" in message
    assert "from_open_clip(open_clip.create_model('ViT-B-32'))" in message


def test_a_model_of_the_hub_that_is_not_supported_is_refused_before_its_weights(tmp_path, monkeypatch) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": open_clip.get_model_config("RN50")}))

    def fetch(repository: str, filename: str | None = None) -> str:
        assert filename == "open_clip_config.json", "weights were fetched"
        return str(tmp_path / filename)

    monkeypatch.setattr(open_clip.factory, "download_pretrained_from_hf", fetch)
    with pytest.raises(UnsupportedTowerError, match=r"^hf-hub:someone/resnet is not a supported model: "):
        HookedCLIP.from_pretrained("hf-hub:someone/resnet")


@pytest.mark.parametrize("name", ["scenes", "local-dir:/anywhere", "hf-hub:someone/something"])
def test_a_tag_is_refused_where_the_weights_come_with_the_name(name: str) -> None:
    assert f"{name!r} brings its own weights and has no tags, got 'openai'" in refusal(name, "openai")


# ---------------------------------------------------------------------- no network


def test_no_network(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One message that says what to do, and nothing logged besides."""

    def offline(*args, **kwargs):
        raise ConnectionError("network is unreachable\nand much more")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", offline)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", CONFIG)
    logging.disable(logging.NOTSET)
    message = refusal("ViT-B-32", "laion2b_s34b_b79k", device="cpu")
    assert "ViT-B-32 laion2b_s34b_b79k are not in the local cache and could not be downloaded" in message
    assert "Connect to the network" in message
    assert "from_pretrained('ViT-B-32', 'laion2b_s34b_b79k', checkpoint='/path/to/open_clip_model" in message
    assert "from_pretrained('scenes')" in message
    assert caplog.records == []
    logging.getLogger().warning("heard again")
    assert caplog.messages == ["heard again"]


@pytest.mark.parametrize("config_is_cached", [True, False])
def test_a_hub_model_without_weights_is_not_left_random(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config_is_cached: bool
) -> None:
    """open_clip itself logs a warning and goes on with random weights where only the config is there."""
    write_model(tmp_path, random_clip())

    def offline(model_id, filename=None, **kwargs):
        if config_is_cached and filename == "open_clip_config.json":
            return str(tmp_path / filename)
        raise ConnectionError("network is unreachable")

    monkeypatch.setattr(open_clip.factory, "download_pretrained_from_hf", offline)
    message = refusal("hf-hub:someone/something", device="cpu")
    assert "hf-hub:someone/something are not in the local cache and could not be downloaded" in message


# ---------------------------------------------------------------------- checkpoints that do not load


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_corrupted_checkpoint(tiny_name: str, tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save(random_clip().state_dict(), path)
    else:
        save_file(random_clip().state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"not a checkpoint", "empty": b""}[damage])
    message = refusal(tiny_name, str(path), device="cpu")
    assert f"The checkpoint tiny-test {path} could not be loaded" in message
    assert "state dict of this very architecture" in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 60}, "visual.class_embedding [60] instead of [48]"),
        ({"layers": 2}, "missing (visual.transformer.resblocks.2."),
        ({"layers": 4}, "not of this architecture (visual.transformer.resblocks.3."),
    ],
)
def test_a_checkpoint_of_another_architecture(tiny_name: str, tmp_path: Path, changes: dict, said: str) -> None:
    torch.save(random_clip({"vision_cfg": changes}).state_dict(), tmp_path / "other.pt")
    message = refusal(tiny_name, str(tmp_path / "other.pt"), device="cpu")
    assert said in message
    assert "state dict of this very architecture" in message


def test_code_in_a_checkpoint_is_not_run(tiny_name: str, tmp_path: Path) -> None:
    marker = tmp_path / "was-run"

    class Evil:
        def __reduce__(self):
            return Path.touch, (marker,)

    path = tmp_path / "evil.pt"
    torch.save({**random_clip().state_dict(), "evil": Evil()}, path)
    message = refusal(tiny_name, str(path), device="cpu")
    assert "weights_only=True" in message
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the file does hold code that a careless loader runs


def test_a_checkpoint_with_nan_is_refused_by_the_weights_name(tiny_name: str, tmp_path: Path) -> None:
    clip = random_clip()
    with torch.no_grad():
        clip.visual.proj[2, 3] = torch.nan
    torch.save(clip.state_dict(), tmp_path / "broken.pt")
    with pytest.raises(ValueError, match=r"tiny-test broken\.pt: the weight 'visual\.proj' holds NaN"):
        HookedCLIP.from_pretrained(tiny_name, str(tmp_path / "broken.pt"), device="cpu")


def test_an_unsupported_tower_is_refused_as_such(tmp_path: Path) -> None:
    changes = {"vision_cfg": {"pool_type": "none"}}
    config = {**CONFIG, "vision_cfg": {**VISION_CFG, "pool_type": "none"}}
    name = write_model(tmp_path / "pooled", random_clip(changes), config)
    with pytest.raises(UnsupportedTowerError, match=r"pooled: .*pool_type='none'"):
        HookedCLIP.from_pretrained(name, device="cpu")


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    assert f"{tmp_path} has no open_clip_config.json" in refusal(f"local-dir:{tmp_path}")
    assert "has no open_clip_config.json" in refusal(f"local-dir:{tmp_path / 'missing'}")


@pytest.mark.parametrize("ignored", [None, "weights.pt"])
def test_a_folder_without_weights_is_not_left_random(tmp_path: Path, ignored: str | None) -> None:
    """open_clip does not look for .pt in a folder, and would go on with random weights."""
    name = write_model(tmp_path, random_clip())
    (tmp_path / "open_clip_model.safetensors").unlink()
    if ignored:
        torch.save(random_clip().state_dict(), tmp_path / ignored)
    assert "has a config but no weights (*.safetensors, *.bin, *.pth)" in refusal(name, device="cpu")


def test_a_folder_with_a_broken_config(tmp_path: Path) -> None:
    name = write_model(tmp_path, random_clip())
    (tmp_path / "open_clip_config.json").write_text("{")
    assert "could not be loaded" in refusal(name, device="cpu")


# ---------------------------------------------------------------------- device and dtype


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float8_e4m3fn])
def test_an_unsupported_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=rf"one of .*torch\.bfloat16.*torch\.float64.*got {dtype}"):
        HookedCLIP.from_pretrained(write_model(tmp_path, random_clip()), dtype=dtype)


def test_a_device_that_is_not_there_is_not_called_a_missing_download(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no_such_device"):
        HookedCLIP.from_pretrained(write_model(tmp_path, random_clip()), device="no_such_device")
