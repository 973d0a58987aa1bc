"""Activation and preprocessing: a tag's always, a file's where all tags agree, else the name's with a warning."""

from __future__ import annotations

import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip import factory

from clip_lens_plugin.adapters.tower import activation_name
from clip_lens_plugin.model.loading import Options, load
from clip_lens_plugin.model.loading.weight_files.fit import Weights
from tests.conftest import random_clip, random_images
from tests.model.loading.test_by_name import CONFIG, distance

pytestmark = pytest.mark.slow

SMALL_TEXT = {"context_length": 8, "vocab_size": 16, "width": 8, "heads": 1, "layers": 1}
TAGS = open_clip.list_pretrained()


def small(config: dict) -> dict:
    """The config with small plain towers; what it says of activation and image size stays."""
    size = config["vision_cfg"].get("image_size", 224)
    vision = {"image_size": size, "patch_size": 16, "layers": 1, "width": 32, "head_width": 16}
    kept = {name: value for name, value in config.items() if name != "multimodal_cfg"}
    return {**kept, "vision_cfg": vision, "text_cfg": {**SMALL_TEXT}}


@pytest.fixture
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched or read."""
    monkeypatch.setattr(factory, "download_pretrained", lambda *_, **__: "nowhere.safetensors")
    monkeypatch.setattr(factory, "load_checkpoint", lambda *_, **__: None)


@pytest.mark.parametrize("name", sorted({name for name, _ in TAGS}))
def test_every_tag_has_its_own_activation_and_preprocessing(
    name: str, without_weights: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preprocessing against open_clip's factory, the activation against its list of tags."""
    config = small(factory._MODEL_CONFIGS[name])
    monkeypatch.setitem(factory._MODEL_CONFIGS, name, config)
    for tag in open_clip.list_pretrained_tags_by_model(name):
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs, _, transform = open_clip.create_model_and_transforms(name, tag, device="meta")
            state = dict(theirs.state_dict())
            monkeypatch.setattr(Weights, "read", classmethod(lambda cls, path, state=state: cls(path, state, ())))
            ours = load(name, tag, "meta", None, Options())
        assert repr(ours.preprocess) == repr(transform), tag
        listed = open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", config.get("quick_gelu", False))
        expected = "quick_gelu" if listed else "gelu"
        assert activation_name(ours.clip.visual.transformer.resblocks[0].mlp.gelu) == expected, tag
        texts = getattr(ours.clip, "transformer", None) or ours.clip.text.transformer
        assert activation_name(texts.resblocks[0].mlp.gelu) == expected, tag
        assert ours.origin.notes == ()


def test_the_tags_that_differ_from_their_name_are_still_there() -> None:
    """So that the test above is one of something."""
    assert sum(open_clip.get_pretrained_cfg(*each).get("quick_gelu", False) for each in TAGS) > 40
    different = [each for each in TAGS if not open_clip.get_model_config(each[0]).get("quick_gelu", False)]
    assert sum(open_clip.get_pretrained_cfg(*each).get("quick_gelu", False) for each in different) >= 27


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(random_clip().state_dict(), tmp_path / "trained.pt")
    return tmp_path / "trained.pt"


@pytest.mark.parametrize(("tag", "quick"), [("openai", True), ("laion2b_s34b_b79k", False), (None, False)])
def test_a_file_beside_a_tag_has_the_tags_settings(tiny_b32, file, load_noting, tag, quick) -> None:
    """The embedding is that of a model built with the tag's activation, in float64."""
    model, notes = load_noting(tiny_b32, tag, checkpoint=file, dtype=torch.float64)
    expected = random_clip({"quick_gelu": quick}).double()
    images = random_images(model)
    assert distance(model(images), expected.encode_image(images)) < 1e-12
    assert model.cfg.act_fn == ("quick_gelu" if quick else "gelu")
    assert len(notes) == (0 if tag else 1)
    assert model.cfg.model_name == " ".join(filter(None, ["ViT-B-32", tag, "trained.pt"]))
    assert model.origin is not None
    assert (model.origin.tag, model.origin.checkpoint) == (tag, str(file))
    assert model.origin.quick_gelu == quick


def test_a_file_whose_tags_differ_is_said_once(tiny_b32, file, load_noting) -> None:
    model, (note,) = load_noting(tiny_b32, file)
    assert "QuickGELU (openai, laion400m_e31 and 3 more), or GELU (laion2b_e16, laion2b_s34b_b79k and " in note
    assert (
        " Used: GELU. If the file descends from a tag, give both: from_pretrained('ViT-B-32', TAG, checkpoint=" in note
    )
    assert note.endswith("Otherwise say it: force_quick_gelu=True (QuickGELU) or False.")
    assert len(note) < 450
    assert model.origin is not None
    assert model.origin.notes == (note,)


@pytest.mark.parametrize(("said", "found"), [(True, "quick_gelu"), (False, "gelu")])
def test_what_is_said_is_in_doubt_no_more(tiny_b32, file, load_noting, said, found) -> None:
    model, notes = load_noting(tiny_b32, file, force_quick_gelu=said)
    assert notes == []
    assert model.cfg.act_fn == found


def test_where_all_tags_agree_their_settings_are_a_files(monkeypatch, file, load_noting) -> None:
    """All tags of ViT-L-14-336 say QuickGELU, which its name does not; those of ViT-H-14-378 squash besides."""
    for name, steps in (("ViT-L-14-336", (0.48145466, "shortest")), ("ViT-H-14-378", (0.5, "squash"))):
        tags = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
        assert {(tag["quick_gelu"], tag["mean"][0], tag["resize_mode"]) for tag in tags} == {(True, *steps)} or name
        monkeypatch.setitem(factory._MODEL_CONFIGS, name, CONFIG)
        model, notes = load_noting(name, file)
        assert notes == []
        assert model.cfg.act_fn == "quick_gelu"
        settings = model.clip.visual.preprocess_cfg
        assert (settings["mean"], settings["resize_mode"]) == (tags[0]["mean"], tags[0]["resize_mode"])


def test_preprocessing_in_doubt_is_said_too(monkeypatch, file, load_noting) -> None:
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-L-14", CONFIG)
    model, (note,) = load_noting("ViT-L-14", file)
    assert "with which activation and preprocessing it was trained" in note
    assert "; mean 0.4815/0.4578/0.4082" in note
    assert "image_mean=" in note
    assert len(note) < 800
    said = {"image_mean": 0.5, "image_std": (0.5, 0.5, 0.5), "image_interpolation": "bicubic"}
    model, notes = load_noting("ViT-L-14", file, force_quick_gelu=True, image_resize_mode="squash", **said)
    assert notes == []
    theirs = open_clip.create_model_and_transforms(
        "ViT-L-14", image_resize_mode="squash", **said | {"image_mean": (0.5,) * 3}
    )
    assert repr(model.preprocess) == repr(theirs[2])


def test_options_reach_every_kind_of_open_clip_model(load_noting) -> None:
    model, _ = load_noting("scenes", image_mean=0.25, image_interpolation="bilinear", force_quick_gelu=True)
    assert model.cfg.act_fn == "quick_gelu"
    assert model.clip.visual.preprocess_cfg["mean"] == (0.25, 0.25, 0.25)
    assert "bilinear" in repr(model.preprocess)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image_interpolation": "lanczos"}, "image_interpolation must be 'bicubic' or 'bilinear', got 'lanczos'"),
        ({"image_resize_mode": "crop"}, "image_resize_mode must be 'shortest', 'longest' or 'squash'"),
        ({"image_mean": (123.7, 116.3, 103.5)}, "image_mean is of pixels between 0 and 1"),
        ({"image_mean": (0.5, 0.5)}, "image_mean must be one number or three"),
        ({"image_std": (0.5, 0.0, 0.5)}, "image_std must be above 0"),
        ({"image_std": float("nan")}, "image_std must be one number or three"),
        ({"force_image_size": 0}, "force_image_size must be a whole number of at least 1"),
        ({"force_image_size": (32, 32, 3)}, r"force_image_size must be one number of pixels or \(height, width\)"),
        ({"force_quick_gelu": 1}, "force_quick_gelu must be True or False"),
        ({"checkpoint": "missing.pt"}, "there is no such file missing.pt"),
        ({"tokenizer": "missing-folder"}, "there is no folder missing-folder"),
        ({"tokenizer": 3}, "tokenizer must be a function"),
    ],
)
def test_values_that_no_option_has(given: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Options.checked(**given)


def test_two_files(tiny_b32, file, refused) -> None:
    assert "Two files are given" in refused(tiny_b32, file, checkpoint=file)
