"""``TransformerBridge.boot_transformers`` gives the image tower, with hooks that act."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from clip_lens_plugin.bridge.architecture import CLIPBridgeAdapter
from clip_lens_plugin.bridge.registration import ARCHITECTURES
from tests.adapters.conversion import image_features, vision_model
from tests.adapters.test_transformers_tower import distance
from tests.bridge.conftest import Booted
from tests.conftest import random_clip

pytestmark = pytest.mark.slow


def test_the_installed_package_offers_its_adapters():
    found = {entry.name: entry.load() for entry in entry_points(group="transformer_lens.architectures")}
    assert {name: found.get(name) for name in ARCHITECTURES} == dict.fromkeys(ARCHITECTURES, CLIPBridgeAdapter)


@torch.no_grad()
def test_the_output_is_hugging_faces(booted: Booted):
    expected = image_features(booted.saved, booted.images)
    assert distance(booted.bridge(booted.images), expected) < 1e-5
    output, _ = booted.bridge.run_with_cache(booted.images)
    assert distance(output, expected) < 1e-5


@torch.no_grad()
def test_the_cache_holds_what_a_hooked_clip_does(booted: Booted):
    _, found = booted.bridge.run_with_cache(booted.images)
    _, expected = booted.hooked.run_with_cache(booted.images)
    at_the_ends = ("hook_embed", "ln_final.", "pool.")
    shared = [name for name in expected if name in found and not name.startswith(at_the_ends)]
    assert len(shared) == 3 * 17  # Of three blocks, everything but hook_result.
    for name in shared:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4, msg=name)


@torch.no_grad()
def test_every_hook_point_is_live(booted: Booted):
    bridge, images = booted.bridge, booted.images
    plain, cache = bridge(images), bridge.run_with_cache(images)[1]
    for name in cache:
        edited = bridge.run_with_hooks(images, fwd_hooks=[(name, lambda x, hook: x * (1 + torch.rand_like(x)))])
        assert distance(edited, plain) > 1e-6, name


@torch.no_grad()
def test_weights_have_transformer_lens_shapes(booted: Booted):
    attention, expected = booted.bridge.blocks[1].attn, booted.hooked.blocks[1].attn
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        torch.testing.assert_close(getattr(attention, name), getattr(expected, name))
    assert (booted.bridge.cfg.n_layers, booted.bridge.cfg.n_heads, booted.bridge.cfg.d_head) == (3, 4, 12)
    assert booted.bridge.cfg.n_ctx == booted.hooked.cfg.n_ctx


def test_a_vision_model_without_its_projection_is_refused(tmp_path):
    vision_model(random_clip()).save_pretrained(tmp_path / "vision")
    with pytest.raises(ValueError, match=r"without the projection .* model_class=transformers.CLIPVisionModelWith"):
        TransformerBridge.boot_transformers(str(tmp_path / "vision"))
