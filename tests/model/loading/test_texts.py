"""Images need no tokenizer and no text tower: what is out of reach is an error where texts are first used."""

from __future__ import annotations

import copy
import pickle

import open_clip
import pytest
import torch
from open_clip import factory
from open_clip.model import CustomTextCLIP

from clip_lens_plugin.model.loading import ModelNotFoundError
from tests.adapters.conversion import letters_tokenizer
from tests.conftest import TEXT_CFG, VISION_CFG, random_clip, random_images
from tests.model.loading.test_by_name import CONFIG, distance

SIGLIP = {
    "embed_dim": 24,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": VISION_CFG,
    "text_cfg": {
        **TEXT_CFG,
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    },
}
ROBERTA = {**CONFIG, "text_cfg": {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base"}}


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path) -> None:
    """No network, and nothing in the hub's cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty-cache"))


@pytest.fixture
def siglip(monkeypatch, tmp_path):
    """SigLIP's name made small, a file for it, and the model in the file."""
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-B-16-SigLIP", SIGLIP)
    torch.manual_seed(0)
    clip = CustomTextCLIP(24, dict(VISION_CFG), dict(TEXT_CFG), init_logit_bias=-10).eval()
    torch.save(clip.state_dict(), tmp_path / "siglip.pt")
    return "ViT-B-16-SigLIP", tmp_path / "siglip.pt", clip


def test_images_need_no_tokenizer(siglip, load_noting) -> None:
    name, path, clip = siglip
    model, notes = load_noting(name, path)
    assert notes == []
    images = random_images(model)
    assert distance(model(images), clip.encode_image(images)) < 1e-6
    with pytest.raises(ModelNotFoundError, match=r"needs its tokenizer for texts, timm/ViT-B-16-SigLIP.*tokenizer="):
        model.encode_text("a dog")
    settings = open_clip.get_pretrained_cfg(name, "webli")
    assert model.clip.visual.preprocess_cfg["mean"] == settings["mean"]
    assert model.clip.visual.preprocess_cfg["resize_mode"] == settings["resize_mode"]


def test_a_tokenizer_may_be_given(siglip, load_noting, tmp_path) -> None:
    name, path, clip = siglip
    letters_tokenizer(tmp_path / "made").save_pretrained(tmp_path / "letters")
    model, _ = load_noting(name, path, tokenizer=tmp_path / "letters")
    assert model.tokenizer is not None
    tokens = model.tokenizer(["ab", "b"])
    assert tokens.shape == (2, 77)
    assert distance(model.encode_text(["ab", "b"]), clip.encode_text(tokens, normalize=True)) < 1e-6
    for other in (pickle.loads(pickle.dumps(model.tokenizer)), copy.deepcopy(model.tokenizer)):
        assert torch.equal(other(["ab", "b"]), tokens)
    given = open_clip.get_tokenizer("ViT-B-32")
    model, _ = load_noting(name, path, tokenizer=given)
    assert model.tokenizer is given
    with pytest.raises(ModelNotFoundError, match="holds none"):
        load_noting(name, path, tokenizer=tmp_path)[0].encode_text("ab")


def test_a_text_tower_out_of_reach_leaves_the_image_tower(monkeypatch, tmp_path, load_noting) -> None:
    monkeypatch.setitem(factory._MODEL_CONFIGS, "roberta-ViT-B-32", ROBERTA)
    clip = random_clip(seed=2)
    held = {name: weight for name, weight in clip.state_dict().items() if name.startswith(("visual.", "logit_scale"))}
    held |= {"text.transformer.embeddings.word_embeddings.weight": torch.ones(3, 2)}
    torch.save(held, tmp_path / "w.pt")
    model, notes = load_noting("roberta-ViT-B-32", tmp_path / "w.pt")
    assert notes == []
    images = random_images(model)
    assert distance(model(images), clip.encode_image(images)) < 1e-6
    assert model.logit_scale == pytest.approx(float(clip.logit_scale.exp()))
    with pytest.raises(ModelNotFoundError, match=r"needs the config of roberta-base .*Images need none"):
        model.encode_text("a dog")
    other = pickle.loads(pickle.dumps(model.clip))
    assert distance(other.encode_image(images), clip.encode_image(images)) < 1e-6


def test_a_tokenizer_that_asks_for_code_is_refused(monkeypatch, siglip, load_noting) -> None:
    text = {**SIGLIP["text_cfg"], "tokenizer_kwargs": {"trust_remote_code": True}}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-B-16-SigLIP", {**SIGLIP, "text_cfg": text})
    model, _ = load_noting(*siglip[:2])
    with pytest.raises(ModelNotFoundError, match="asks for code that comes with it to be run"):
        model.encode_text("a dog")
