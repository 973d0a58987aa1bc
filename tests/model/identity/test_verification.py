"""The wrapped model beside its source: equal where it should be, and the first block named where it is not."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.adapters.checks.structure import SourceMismatchError
from clip_lens_plugin.model.identity.verification import ALLOWED, Verification, source_embedding
from tests.adapters.conversion import clip_model, siglip_model, vision_model
from tests.conftest import random_clip, random_images
from tests.support.families import FAMILIES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_equals_its_source(family: str, dtype: torch.dtype):
    clip: Any = FAMILIES[family]().to(dtype)
    model = HookedCLIP.from_open_clip(clip)
    assert isinstance(model.verified, Verification)
    assert model.verified.images == "probe"
    assert model.verified.n_images == 1
    images = random_images(model, 3)
    found = model.verify(images)
    assert found.n_images == 3
    assert found.images == "given"
    assert found.holds
    assert found.parts_at is None
    assert found.relative_difference <= (1e-6 if dtype is torch.float32 else 1e-14 * 100)
    with torch.no_grad():
        theirs = clip.encode_image(images, normalize=False) if family == "coca" else clip.encode_image(images)
        worst = ((model(images) - theirs).norm(dim=-1) / theirs.norm(dim=-1)).max()
    assert found.relative_difference == pytest.approx(float(worst), abs=1e-12)


@pytest.mark.parametrize(
    ("family", "convert"),
    [
        ("plain", clip_model),
        ("plain", vision_model),
        ("SigLIP", siglip_model),
        ("SigLIP", lambda clip: siglip_model(clip, second=True)),
    ],
)
def test_transformers_by_their_own_methods(family: str, convert: Any):
    source = convert(FAMILIES[family]().double()).double().eval()
    model = HookedCLIP.from_transformers(source)
    assert model.verified is not None
    assert model.verified.relative_difference < 1e-12


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_source_that_rounds_more_coarsely_than_its_weights(attention: str):
    """Hugging Face's "eager" softmax is in float32 whatever the weights are."""
    source = clip_model(random_clip(dtype=torch.float64)).double().eval()
    source.set_attn_implementation(attention)
    model = HookedCLIP.from_transformers(source)
    assert model.verified.allowed == ALLOWED[torch.float32 if attention == "eager" else torch.float64]
    assert model.verified.holds


def test_hooks_that_collect_outputs_change_nothing():
    source = clip_model(random_clip()).eval()
    model = HookedCLIP.from_transformers(source)
    with torch.no_grad():
        source.vision_model(pixel_values=random_images(model), output_hidden_states=True)
    assert any(module._forward_hooks for module in source.modules())
    assert model.verify().holds
    assert HookedCLIP.from_transformers(source).verified.holds


def test_image_tower_alone():
    holder: Any = nn.Module()
    holder.visual = random_clip().visual
    model = HookedCLIP.from_open_clip(holder)
    images = random_images(model)
    with torch.no_grad():
        assert torch.equal(source_embedding(model, images), holder.visual(images))
    assert model.verified.holds


def test_what_follows_the_tower_is_compared():
    """The source's encode_image is the user's; where it does more than its tower, the numbers would be another's."""
    clip: Any = random_clip()
    clip.encode_image = lambda images, normalize=False: clip.visual(images) * torch.linspace(0.5, 1.5, 24)
    with pytest.raises(SourceMismatchError, match=r"differs .* part first at the pooling or the projection"):
        HookedCLIP.from_open_clip(clip)
    clip.encode_image = lambda images, normalize=False: clip.visual(images)[:, :20]
    with pytest.raises(SourceMismatchError, match=r"shape \[1, 20\], the wrapped model \[1, 24\]"):
        HookedCLIP.from_open_clip(clip)


@pytest.mark.parametrize(
    ("block", "at"), [(0, "blocks.0.hook_resid_post"), (2, "blocks.2.hook_resid_post"), (None, "hook_embed")]
)
def test_first_block_is_named(block: int | None, at: str, monkeypatch: pytest.MonkeyPatch):
    """Our own copy of one activation or embedding is spoilt; the source's is not."""
    model = HookedCLIP.from_open_clip(random_clip())
    if block is None:
        monkeypatch.setattr(type(model._parts.embed), "__call__", lambda self, x: torch.ones(len(x), 17, 48))
    else:
        model.blocks[block].mlp.act = nn.ReLU()
    with pytest.raises(SourceMismatchError, match=f"part first at {at}"):
        model.verify()


def test_class_of_block_changed_before_import_is_seen(monkeypatch: pytest.MonkeyPatch):
    """A function that the source's modules call is another: no class and no hook says so, the probe does."""
    clip = random_clip()
    plain = torch.nn.functional.multi_head_attention_forward

    def doubled(*args: Any, **kwargs: Any) -> Any:
        found, weights = plain(*args, **kwargs)
        return 2 * found, weights

    model = HookedCLIP.from_open_clip(copy.deepcopy(clip))
    clip.train()  # In evaluation mode torch takes a kernel of its own.
    model.clip.train()
    monkeypatch.setattr(torch.nn.functional, "multi_head_attention_forward", doubled)
    with pytest.raises(SourceMismatchError, match=r"part first at blocks\.0\.hook_resid_post"):
        model.verify()


def test_hooks_are_refused():
    model = HookedCLIP.from_open_clip(random_clip())
    model.add_hook("blocks.0.hook_mlp_out", lambda x, hook: x * 2)
    with pytest.raises(ValueError, match=r"there are hooks on blocks\.0\.hook_mlp_out"):
        model.verify()
    model.reset_hooks()
    assert model.verify().holds


def test_meta_device_is_not_run():
    with torch.device("meta"):
        clip = random_clip()
    assert HookedCLIP.from_open_clip(clip).verified is None


def test_source_that_gives_nan():
    clip = random_clip()
    with torch.no_grad():
        clip.visual.conv1.weight.fill_(torch.finfo(torch.float32).max)
    with pytest.warns(UserWarning, match="the source's own embedding of the images holds NaN"):
        model = HookedCLIP.from_open_clip(clip)
    assert math.isnan(model.verified.relative_difference)
    assert not model.verified.holds
    assert json.loads(json.dumps(model.verified.to_json()))["relative_difference"] is None


def test_no_images():
    model = HookedCLIP.from_open_clip(random_clip())
    with pytest.raises(ValueError, match="No images"):
        model.verify(torch.zeros(0, 3, 32, 32))


def test_autocast_around_it_changes_nothing():
    model = HookedCLIP.from_open_clip(random_clip())
    with torch.autocast("cpu", torch.bfloat16):
        assert model.verify().relative_difference < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype: torch.dtype):
    from open_clip.model import convert_weights_to_lp

    clip = random_clip()
    convert_weights_to_lp(clip, dtype)
    model = HookedCLIP.from_open_clip(clip)
    assert model.verified.holds
    assert model.verified.allowed == ALLOWED[dtype]


def test_shown():
    found = Verification(2e-7, 1e-5, "float32", 1, "probe")
    assert str(found) == (
        "embedding equal to the source's own to 2.0e-07 on one probe image (float32, at most 1e-05 is rounding)"
    )
