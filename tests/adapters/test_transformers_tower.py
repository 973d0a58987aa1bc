"""The same checkpoint in Hugging Face's format gives Hugging Face's output, and open_clip's contributions."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    SiglipImageProcessor,
)

from clip_lens_plugin import HookedCLIP, decompose
from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from clip_lens_plugin.model.loading import ModelNotFoundError
from tests.adapters.conversion import clip_model, image_features, letters_tokenizer, siglip_model, vision_model
from tests.conftest import random_clip, random_images
from tests.support.families import SIGLIP, vit

pytestmark = pytest.mark.slow

PAIRS = {
    "CLIPModel": (random_clip, clip_model),
    "CLIPModel, quick_gelu": (partial(random_clip, {"quick_gelu": True}), clip_model),
    "CLIPVisionModelWithProjection": (random_clip, vision_model),
    "SiglipModel": (partial(vit, **SIGLIP), siglip_model),
    "Siglip2Model": (partial(vit, **SIGLIP), partial(siglip_model, second=True)),
}
"""Name to a maker of an open_clip model and its conversion."""


def distance(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm() / expected.norm()).detach())


@pytest.fixture(params=list(PAIRS))
def pair(request: pytest.FixtureRequest):
    """(open_clip's model wrapped, Hugging Face's wrapped, Hugging Face's own), in float64."""
    make, convert = PAIRS[request.param]
    clip = make().double()
    converted = convert(clip)
    return HookedCLIP.from_open_clip(clip), HookedCLIP.from_transformers(converted, model_name="mine"), converted


def test_output_is_hugging_faces_and_open_clips(pair):
    theirs, model, converted = pair
    images = random_images(model)
    expected = image_features(converted, images)
    # The gelus of both libraries differ in the last bits; SigLIP 2 resizes its positions in single precision.
    assert distance(model(images), expected) < 1e-6
    assert distance(model(images), theirs(images)) < 1e-12
    output, _ = model.run_with_cache(images)
    assert distance(output, theirs(images)) < 1e-12


def test_contributions_are_open_clips(pair):
    theirs, model, _ = pair
    images = random_images(model)
    _, cache = model.run_with_cache(images)
    expected = theirs.decompose(images, tokens=True)
    for c in (model.decompose(images, tokens=True, strict=True), decompose(model, cache, strict=True)):
        assert c.completeness_error() < 1e-12
        for part in ("heads", "mlps", "embed", "attn_bias", "ln_bias", "pool_bias", "pool_mlp"):
            found, other = getattr(c, part), getattr(expected, part)
            assert (found is None) == (other is None), part
            if found is not None and other is not None:
                torch.testing.assert_close(found, other, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(c.tokens(1, 2), expected.tokens(1, 2), rtol=1e-9, atol=1e-10)


def test_shape_is_the_same(pair):
    theirs, model, _ = pair
    for name in ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "n_prefix_tokens", "d_embed"):
        assert getattr(model.cfg, name) == getattr(theirs.cfg, name), name
    for name in ("image_size", "patch_size", "pooling", "act_fn"):
        assert getattr(model.cfg, name) == getattr(theirs.cfg, name), name
    assert model.cfg.model_name == "mine"
    assert [*model.hook_dict] == [*theirs.hook_dict]


def test_no_weight_is_copied_and_single_precision_is_exact_to_its_rounding(pair):
    _, model, converted = pair
    own = {id(parameter) for parameter in converted.parameters()}
    assert {id(parameter) for parameter in model.parameters()} <= own
    model.float()
    images = random_images(model)
    assert distance(model(images), image_features(converted, images)) < 1e-5
    assert model.decompose(images, strict=True).completeness_error() < 1e-5


@pytest.fixture
def folder(tmp_path) -> Path:
    """A ``CLIPModel`` with its processor, as ``save_pretrained`` writes them."""
    place = tmp_path / "my-clip"
    clip_model(random_clip()).save_pretrained(place)
    size = {"shortest_edge": 32}
    CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(place)
    return place


def test_a_folder_loads_with_its_preprocessing(folder):
    clip = random_clip()
    model = HookedCLIP.from_pretrained(f"transformers:{folder}")
    assert (model.cfg.model_name, model.cfg.dtype) == ("my-clip", torch.float32)
    picture = Image.effect_noise((100, 50), 90).convert("RGB")
    images = model.prepare([picture])
    assert images.shape == (1, 3, 32, 32)
    expected = CLIPImageProcessor.from_pretrained(folder)(images=picture, return_tensors="pt")["pixel_values"]
    assert (images - expected).abs().max() < 0.1  # Two libraries' bicubic filters: a few grey levels.
    assert distance(model(images), clip.encode_image(images)) < 1e-5
    assert HookedCLIP.from_pretrained(f"transformers:{folder}", dtype=torch.float64).cfg.dtype == torch.float64
    assert model.logit_scale == pytest.approx(float(clip.logit_scale.exp()))
    with pytest.raises(ValueError, match="without a tokenizer"):
        model.encode_text("a dog")


def test_texts_are_those_of_open_clip(folder, tmp_path):
    letters_tokenizer(tmp_path / "tokenizer").save_pretrained(folder)
    model, clip = HookedCLIP.from_pretrained(f"transformers:{folder}"), random_clip()
    assert model.tokenizer is not None
    tokens = model.tokenizer(["ab", "b"])
    assert tokens.shape == (2, 77)
    assert (tokens[:, 0] == 49406).all()
    torch.testing.assert_close(model.encode_text(["ab", "b"]), clip.encode_text(tokens, normalize=True).detach())
    assert model.text_fingerprint() == HookedCLIP.from_pretrained(f"transformers:{folder}").text_fingerprint()


def test_siglip_squashes_and_pads_to_its_length(tmp_path):
    siglip_model(vit(**SIGLIP)).save_pretrained(tmp_path / "siglip")
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "siglip")
    model = HookedCLIP.from_pretrained(f"transformers:{tmp_path / 'siglip'}")
    picture = Image.effect_noise((90, 40), 90).convert("RGB")
    expected = SiglipImageProcessor.from_pretrained(tmp_path / "siglip")(images=picture, return_tensors="pt")
    assert (model.prepare([picture]) - expected["pixel_values"]).abs().max() < 0.1
    tokens = torch.randint(0, 99, (2, 16))
    norms = model.clip.encode_text(tokens, normalize=True).norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(2))


def test_an_image_tower_alone_has_no_texts():
    model = HookedCLIP.from_transformers(vision_model(random_clip()))
    assert model.decompose(random_images(model), strict=True).completeness_error() < 1e-5
    with pytest.raises(ValueError, match="no logit scale"):
        _ = model.logit_scale
    assert not hasattr(model, "logit_scale")
    assert not hasattr(model, "logit_bias")
    with pytest.raises(ValueError, match="without a tokenizer"):
        model.encode_text("a dog")


def test_preprocessing_that_is_missing_or_unknown_may_be_said(folder):
    name, file = f"transformers:{folder}", folder / "preprocessor_config.json"
    steps = {
        "image_mean": 0.5,
        "image_std": 0.25,
        "image_interpolation": "bilinear",
        "image_resize_mode": "squash",
    }
    picture = Image.effect_noise((64, 50), 90).convert("RGB")
    for changes, said in (({"resample": 1}, "Pillow's filter 1"), ({"size": {"shortest_edge": 40}}, "32, 40 pixels")):
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
        with pytest.raises(ModelNotFoundError, match=said):
            HookedCLIP.from_pretrained(name)
        assert HookedCLIP.from_pretrained(name, **steps).prepare([picture]).shape == (1, 3, 32, 32)
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    file.unlink()
    with pytest.raises(ValueError, match=r"has no preprocessor_config\.json"):
        HookedCLIP.from_pretrained(name).prepare([picture])
    with pytest.raises(ModelNotFoundError, match="give all of its steps: image_mean"):
        HookedCLIP.from_pretrained(name, image_mean=0.5)
    found = HookedCLIP.from_pretrained(name, **steps).prepare([picture])
    expected = torch.from_numpy(np.array(picture.resize((32, 32), Image.Resampling.BILINEAR))).permute(2, 0, 1) / 255
    assert (found[0] - (expected - 0.5) / 0.25).abs().max() < 0.05


@pytest.mark.parametrize(
    "option", [{"force_quick_gelu": True}, {"force_image_size": 64}, {"checkpoint": "config.json"}]
)
def test_options_of_open_clips_models_are_refused(folder, option):
    option = {name: folder / value if name == "checkpoint" else value for name, value in option.items()}
    with pytest.raises(ModelNotFoundError, match=f"{next(iter(option))} is for open_clip's models"):
        HookedCLIP.from_pretrained(f"transformers:{folder}", **option)


def test_a_tokenizer_may_be_given(folder, tmp_path):
    letters_tokenizer(tmp_path / "made").save_pretrained(tmp_path / "letters")
    model = HookedCLIP.from_pretrained(f"transformers:{folder}", tokenizer=tmp_path / "letters")
    tokens = model.tokenizer(["ab"])
    expected = random_clip().encode_text(tokens, normalize=True)
    torch.testing.assert_close(model.encode_text(["ab"]), expected.detach())


def test_other_models_are_refused_by_name(tmp_path):
    clip = clip_model(random_clip())
    with pytest.raises(UnsupportedTowerError, match="Siglip2Model are supported, got CLIPTextModel"):
        HookedCLIP.from_transformers(CLIPTextModel(clip.config.text_config))
    CLIPTextModel(clip.config.text_config).save_pretrained(tmp_path / "text")
    with pytest.raises(UnsupportedTowerError, match="a model of CLIPTextModel"):
        HookedCLIP.from_pretrained(f"transformers:{tmp_path / 'text'}")
    headless = siglip_model(vit(**SIGLIP))
    headless.vision_model.use_head = False
    with pytest.raises(UnsupportedTowerError, match="no pooling head"):
        HookedCLIP.from_transformers(headless)


def test_broken_folders_are_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match=r"There is no folder .*nowhere"):
        HookedCLIP.from_pretrained("transformers:nobody/nowhere")
    with pytest.raises(ModelNotFoundError, match="brings its own weights"):
        HookedCLIP.from_pretrained(f"transformers:{folder}", "a-tag")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelNotFoundError, match="could not be loaded"):
        HookedCLIP.from_pretrained(f"transformers:{folder}")
    weights.unlink()
    torch.save(clip_model(random_clip()).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelNotFoundError, match="could not be loaded"):
        HookedCLIP.from_pretrained(f"transformers:{folder}")


def test_weights_that_lack_parameters_are_refused(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["vision_model.encoder.layers.1.mlp.fc1.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelNotFoundError, match=r"lack 1 parameters of CLIPModel"):
        HookedCLIP.from_pretrained(f"transformers:{folder}")
