"""Folders of edited models, loaded without this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import transformers
from open_clip.coca_model import CoCa
from open_clip.model import CustomTextCLIP

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.editing import saving
from clip_lens_plugin.editing.effects import EditEffects
from clip_lens_plugin.model.identity.verification import unnormalised
from clip_lens_plugin.model.loading.image_tower import ImageTower
from tests.adapters.conversion import clip_model, siglip_model
from tests.conftest import EXTENDED, TEXT_CFG, TOWERS, VISION_CFG, random_clip, random_images
from tests.editing.test_edited import hooked_run, means_of
from tests.support.families import FAMILIES

SMALL = {**TEXT_CFG, "vocab_size": 500}
TIMM = {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": None, "image_size": 160}


def config(changes: dict[str, Any]) -> dict[str, Any]:
    vision = {**VISION_CFG, **changes.get("vision_cfg", {})}
    return {"embed_dim": 24, "text_cfg": dict(TEXT_CFG), **changes, "vision_cfg": vision}


def timm_clip() -> Any:
    torch.manual_seed(0)
    return CustomTextCLIP(64, dict(TIMM), dict(SMALL), init_logit_bias=-10.0).eval()


def coca() -> Any:
    torch.manual_seed(0)
    multimodal = {"context_length": 20, "vocab_size": 500, "width": 32, "heads": 2, "layers": 1}
    vision = {**VISION_CFG, **EXTENDED["coca"]["vision_cfg"], "output_tokens": True}
    text = {**SMALL, "context_length": 20, "embed_cls": True, "output_tokens": True}
    clip = CoCa(24, multimodal, text, vision).eval()
    with torch.no_grad():  # Which open_clip leaves as memory was.
        clip.text_decoder.text_projection.zero_()
    parts = {"vision_cfg": vision, "text_cfg": text, "multimodal_cfg": multimodal}
    return clip, {"embed_dim": 24, **parts, "custom_text": True}


MADE = {
    **{
        name: lambda name=name: (random_clip(TOWERS[name]), config(TOWERS[name]))
        for name in ("quick_gelu", "not_square", "clipa")
    },
    "timm": lambda: (timm_clip(), {"embed_dim": 64, "vision_cfg": TIMM, "text_cfg": SMALL}),
    "coca": coca,
}


def edit(model: HookedCLIP) -> tuple[HookedCLIP, dict[tuple[int, int], Any]]:
    """An edited model, and the hooks that do the same."""
    means = means_of(model).to(model.cfg.dtype)
    edited = model.edited(remove=[(0, 1)], scale={(1, 0): 0.25}, means=means)
    return edited, {(0, 1): lambda z: means[0, 1].expand_as(z), (1, 0): lambda z: 0.25 * z}


@pytest.mark.parametrize("name", MADE)
def test_open_clip_alone_loads_what_the_hooks_did(name: str, tmp_path: Path) -> None:
    clip, model_cfg = MADE[name]()
    model = HookedCLIP.from_open_clip(clip, model_name=name)
    edited, hooks = edit(model)
    asked = json.dumps(model_cfg)
    folder = edited.save_open_clip(tmp_path / "edited", model_cfg=model_cfg)
    assert json.dumps(model_cfg) == asked
    loaded = open_clip.create_model(f"local-dir:{folder}", device="cpu").eval()
    images = random_images(model)
    expected = hooked_run(model, images, hooks)
    with torch.no_grad():
        found = unnormalised(loaded.encode_image, images)
        ids = torch.randint(1, 400, (2, loaded.context_length), generator=torch.Generator().manual_seed(0))
        texts = [unnormalised(each.encode_text, ids) for each in (loaded, clip)]
    assert (found - expected).norm() < 1e-6 * expected.norm()
    torch.testing.assert_close(*texts)
    assert (model(images) - expected).norm() > 1e-3 * expected.norm()
    held = [path.name for path in folder.iterdir()]
    assert sorted(held) == ["README.md", "open_clip_config.json", "open_clip_model.safetensors"]
    assert list(tmp_path.iterdir()) == [folder]


def test_the_embedded_model_goes_to_a_folder_and_back(tmp_path: Path) -> None:
    model = HookedCLIP.from_pretrained("scenes")
    edited, _ = edit(model)
    folder = edited.save_open_clip(str(tmp_path / "edited"))
    assert (folder / "bpe.txt.gz").is_file()
    loaded, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", device="cpu")
    again = HookedCLIP.from_pretrained(f"local-dir:{folder}", device="cpu")
    images = random_images(model).tanh()
    for each in (loaded.eval().encode_image, again):
        torch.testing.assert_close(each(images), edited(images))
    assert str(preprocess) == str(model.preprocess)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "L0H1 removed, its mean in its place" in card
    assert 'open_clip.SimpleTokenizer(bpe_path="FOLDER/bpe.txt.gz", context_length=20)' in card
    tokens = open_clip.SimpleTokenizer(bpe_path=str(folder / "bpe.txt.gz"), context_length=20)(["a red circle"])
    assert torch.equal(tokens, edited.tokenizer(["a red circle"]))  # type: ignore[misc]
    torch.testing.assert_close(loaded.encode_text(tokens), model.clip.encode_text(tokens))


@pytest.mark.parametrize("make", [clip_model, siglip_model])
def test_transformers_alone_loads_what_the_hooks_did(make: Any, tmp_path: Path) -> None:
    model = HookedCLIP.from_transformers(make(random_clip() if make is clip_model else FAMILIES["SigLIP"]()))
    edited, hooks = edit(model)
    folder = edited.save_open_clip(tmp_path / "edited")
    name = "CLIPModel" if make is clip_model else "SiglipModel"
    loaded = getattr(transformers, name).from_pretrained(folder).eval()
    images = random_images(model)
    expected = hooked_run(model, images, hooks)
    with torch.no_grad():
        found = loaded.get_image_features(pixel_values=images)
    found = getattr(found, "pooler_output", found)
    assert (found - expected).norm() < 1e-6 * expected.norm()
    assert f"{name}.from_pretrained" in (folder / "README.md").read_text(encoding="utf-8")


def test_nothing_is_overwritten_or_left_behind(tmp_path: Path) -> None:
    model = HookedCLIP.from_open_clip(random_clip())
    edited, _ = edit(model)
    place = tmp_path / "edited"
    place.mkdir()
    with pytest.raises(FileExistsError, match="is there already"):
        edited.save_open_clip(place, model_cfg=config({}))
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        edited.save_open_clip(tmp_path / "no" / "edited", model_cfg=config({}))
    with pytest.raises(ValueError, match="not loaded by this package"):
        edited.save_open_clip(tmp_path / "other")
    with pytest.raises(ValueError, match="loads as another model"):
        edited.save_open_clip(tmp_path / "other", model_cfg=config({"quick_gelu": True}))
    wrong_heads = {**config({}), "text_cfg": {**TEXT_CFG, "heads": 4}}
    with pytest.raises(ValueError, match="loads as another model"):
        edited.save_open_clip(tmp_path / "other", model_cfg=wrong_heads)
    with pytest.raises(ValueError, match="open_clip cannot load what was written"):
        edited.save_open_clip(tmp_path / "other", model_cfg=config({"vision_cfg": {"layers": 2}}))
    with pytest.raises(ValueError, match="must have a vision_cfg and a text_cfg"):
        edited.save_open_clip(tmp_path / "other", model_cfg={"embed_dim": 24})
    with pytest.raises(ValueError, match="of other edits"):
        edited.save_open_clip(tmp_path / "other", EditEffects((), 1, (), 0, None), config({}))
    assert list(tmp_path.iterdir()) == [place]
    assert list(place.iterdir()) == []


def test_an_image_tower_alone_is_refused(tmp_path: Path) -> None:
    model = HookedCLIP.from_open_clip(ImageTower(random_clip(), True, "The text tower is out of reach."))
    with pytest.raises(ValueError, match="The text tower is out of reach"):
        model.edited(scale={(0, 0): 2}).save_open_clip(tmp_path / "edited", model_cfg=config({}))


def test_files_that_lie_elsewhere_are_not_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    HookedCLIP.from_pretrained("scenes").save_open_clip(source)
    assert "Nothing: these are the weights" in (source / "README.md").read_text(encoding="utf-8")
    (tmp_path / "secret").write_text("secret")
    (source / "vocab.txt").symlink_to(tmp_path / "secret")
    (source / "merges.txt").write_text("#version: 0.2")
    with pytest.warns(match="symbolic links"):
        model = HookedCLIP.from_pretrained(f"local-dir:{source}")
    copied = saving._copy_files(model, tmp_path)
    assert copied == ["merges.txt", "bpe.txt.gz"]
    assert not (tmp_path / "vocab.txt").exists()
