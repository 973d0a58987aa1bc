"""The catalogue says of a name what loading it would say."""

from __future__ import annotations

import open_clip
import pandas as pd
import pytest
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from clip_lens_plugin.model.catalogue import catalogue

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    parts = (
        "ViT-B-32",
        "RN50",
        "L-14-CLIPA",
        "MobileCLIP-",
        "convnext_base",
        "EVA02-B",
        "B-16-SigLIP2",
        "ViTamin-S",
        "PE-Core-T",
    )
    return pd.concat([catalogue(part) for part in parts]).drop_duplicates("name").set_index("name")


@pytest.mark.parametrize(
    ("name", "family", "numbers"),
    [
        ("ViT-B-32", "open_clip ViT, class token", (12, 12, 768, "32 x 32")),
        ("ViT-L-14-CLIPA", "open_clip ViT, mean", (24, 16, 1024, "14 x 14")),
        ("MobileCLIP-B", "timm ViT, class token", (12, 12, 768, "16 x 16")),
        ("coca_ViT-B-32", "open_clip ViT, attention pool", (12, 12, 768, "32 x 32")),
        ("ViT-B-16-SigLIP2", "timm ViT, attention pool", (12, 12, 768, "16 x 16")),
        ("EVA02-B-16", "timm Eva, class token", (12, 12, 768, "16 x 16")),
        ("PE-Core-T-16-384", "timm Eva, attention pool", (12, 3, 192, "16 x 16")),
    ],
)
def test_supported_towers_have_their_shape(found, name, family, numbers):
    row = found.loc[name]
    assert row["supported"]
    assert row["reason"] == ""
    assert row["family"] == family
    assert tuple(row[["layers", "heads", "width", "patch"]]) == numbers
    assert list(row["tags"]) == open_clip.list_pretrained_tags_by_model(name)


@pytest.mark.parametrize(
    ("name", "family", "reason"),
    [
        ("RN50", "open_clip ModifiedResNet", "no residual stream"),
        ("ViTamin-S", "timm VisionTransformer", "ViTamin's stages"),
        ("convnext_base", "timm ConvNeXt", "a trunk of timm's ConvNeXt"),
        ("MobileCLIP-S1", "timm FastVit", "a trunk of timm's FastVit"),
    ],
)
def test_others_are_refused_with_a_reason(found, name, family, reason):
    row = found.loc[name]
    assert not row["supported"]
    assert row["family"] == family
    assert reason in row["reason"]


def test_it_says_what_loading_says(found):
    for name in ("ViT-B-32", "RN50", "EVA02-B-16", "ViTamin-S"):
        with torch.device("meta"):
            clip = open_clip.create_model(name, device="meta")
        try:
            cfg = HookedCLIP.from_open_clip(clip).cfg
            assert (cfg.n_layers, cfg.n_heads) == tuple(found.loc[name, ["layers", "heads"]])
        except UnsupportedTowerError:
            assert not found.loc[name, "supported"]


def test_a_config_that_cannot_be_built_is_named(monkeypatch):
    configs = {"broken": {"embed_dim": 8, "vision_cfg": {"width": "wide"}}, "none": {"embed_dim": 8}}
    monkeypatch.setattr(open_clip, "list_models", lambda: list(configs))
    monkeypatch.setattr(open_clip, "get_model_config", configs.get)
    rows = catalogue().set_index("name")
    assert not rows["supported"].any()
    assert "cannot be built" in rows.loc["broken", "reason"]
    assert "no vision config" in rows.loc["none", "reason"]
