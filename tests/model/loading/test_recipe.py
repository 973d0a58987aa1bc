"""How a model was loaded is kept with it, and loads the same model again."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.hints import for_command_line
from clip_lens_plugin.model.loading.recipe import PATH, Recipe, recipe_of_title
from tests.conftest import random_clip
from tests.model.loading.test_by_name import write_model

SAID = {"force_quick_gelu": True, "force_image_size": (48, 32), "image_mean": (0.1, 0.2, 0.3), "image_std": (0.4,) * 3}


@pytest.fixture
def loaded(tiny_b32, tmp_path, monkeypatch, load_noting) -> HookedCLIP:
    """From a file that was given by its name alone, with settings."""
    save_file(random_clip().state_dict(), tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    more = {"image_interpolation": "bilinear", "image_resize_mode": "squash"}
    return load_noting(tiny_b32, "openai", checkpoint="w.safetensors", **SAID, **more)[0]


def test_a_recipe_loads_the_same_model_from_another_folder(loaded, tmp_path, monkeypatch, load_noting) -> None:
    recipe = Recipe.from_json(json.loads(json.dumps(loaded.origin.recipe.to_json())))
    assert recipe == loaded.origin.recipe
    assert recipe.checkpoint == str(tmp_path / "w.safetensors")
    monkeypatch.chdir("/")
    again, _ = load_noting(**recipe.said())
    assert again.origin.recipe == recipe
    assert repr(again.preprocess) == repr(loaded.preprocess)
    assert again.cfg == loaded.cfg
    assert all(torch.equal(a, b) for a, b in zip(again.clip.parameters(), loaded.clip.parameters(), strict=True))


def test_a_recipe_reads_as_it_is_written(loaded, tmp_path) -> None:
    recipe = loaded.origin.recipe
    assert eval(str(recipe), {"HookedCLIP": type("Names", (), {"from_pretrained": lambda *a, **k: (a, k)})}) == (
        ("ViT-B-32", "openai"),
        {name: value for name, value in recipe.said().items() if name not in ("name", "pretrained")},
    )
    with for_command_line("..."):
        typed = shlex.split(str(recipe))
    mean = ["--image-mean", "0.1", "0.2", "0.3"]
    assert typed[:4] == ["--model", "ViT-B-32", "--pretrained", "openai"]
    assert typed[4:6] == ["--checkpoint", str(tmp_path / "w.safetensors")]
    assert typed[typed.index("--force-quick-gelu") :][:3] == ["--force-quick-gelu", "--force-image-size", "48x32"]
    assert typed[typed.index("--image-mean") :][:4] == mean


def test_folders_are_kept_as_absolute_paths(tmp_path, monkeypatch, load_noting) -> None:
    write_model(tmp_path / "mine", random_clip())
    monkeypatch.chdir(tmp_path)
    recipe = load_noting("local-dir:mine")[0].origin.recipe
    assert recipe == Recipe(f"local-dir:{tmp_path / 'mine'}")
    assert recipe.without_path() == Recipe("local-dir:FOLDER")
    assert Recipe("ViT-B-32", checkpoint="/a").without_path() == Recipe("ViT-B-32", checkpoint=PATH)


def test_what_cannot_be_written_down_has_no_recipe(load_noting) -> None:
    model, _ = load_noting("scenes", tokenizer=lambda texts: torch.zeros(len(texts), 8))
    assert model.origin.recipe is None
    assert HookedCLIP.from_open_clip(random_clip()).origin is None


@pytest.mark.parametrize(
    ("title", "recipe"),
    [
        ("scenes", Recipe("scenes")),
        ("ViT-B-32 openai", Recipe("ViT-B-32", "openai")),
        ("ViT-B-32 weights.pt", Recipe("ViT-B-32", checkpoint=PATH)),
        ("ViT-B-32 openai weights.pt", Recipe("ViT-B-32", "openai", PATH)),
        ("hf-hub:someone/something", Recipe("hf-hub:someone/something")),
        ("ViT-B-32", None),
        ("my own model", None),
    ],
)
def test_a_title_says_what_it_can(title, recipe) -> None:
    assert recipe_of_title(title) == recipe


@pytest.mark.parametrize(
    "values",
    [None, [], {}, {"name": 3}, {"name": "scenes", "checkpoint": ["/etc/passwd"]}, {"name": "scenes", "code": "x"}],
)
def test_what_is_no_recipe_is_refused(values) -> None:
    with pytest.raises(ValueError, match="its model"):
        Recipe.from_json(values)


def test_paths_of_a_recipe_are_not_resolved(tmp_path) -> None:
    """A link to the newest weights stays one."""
    Path(tmp_path / "real.pt").touch()
    os.symlink(tmp_path / "real.pt", tmp_path / "newest.pt")
    from clip_lens_plugin.model.loading.options import Options

    recipe = Recipe.of("ViT-B-32", None, tmp_path / "newest.pt", Options())
    assert recipe is not None
    assert recipe.checkpoint == str(tmp_path / "newest.pt")
