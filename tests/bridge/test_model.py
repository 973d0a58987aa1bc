"""A bridge gives what a ``HookedCLIP`` of the same weights gives."""

from __future__ import annotations

import gc
import inspect
import weakref

import pytest
import torch
from PIL import Image
from transformer_lens.hook_points import HookPoint

import clip_lens_plugin
from clip_lens_plugin import (
    ContributionStore,
    HookedCLIP,
    Moments,
    TextPool,
    ZeroShotClassifier,
    as_hooked_clip,
    collect,
    decompose,
    patch_text_map,
    text_span,
)
from clip_lens_plugin.ablation.means import activation_means
from clip_lens_plugin.ablation.self_attention import class_self_attention_messages
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.maps.patch_text import head_text_scores
from clip_lens_plugin.views import attention_view
from tests.adapters.conversion import clip_model, image_features
from tests.adapters.test_transformers_tower import distance
from tests.bridge.conftest import Booted, boot
from tests.conftest import random_clip, random_images

pytestmark = pytest.mark.slow

PARTS = ("heads", "mlps", "embed", "attn_bias", "ln_bias", "pool_bias", "pool_mlp", "edits", "embedding")


def assert_same(found: Contributions, expected: Contributions) -> None:
    for name in PARTS:
        part, other = getattr(found, name), getattr(expected, name)
        assert (part is None) == (other is None), name
        if part is not None:
            torch.testing.assert_close(part, other, rtol=1e-3, atol=1e-4, msg=name)


def test_a_cached_run_is_decomposed(booted: Booted):
    with torch.no_grad():
        _, cache = booted.bridge.run_with_cache(booted.images)
    found = decompose(booted.bridge, cache, strict=True)
    assert found.completeness_error() < 1e-5
    assert distance(found.embedding, image_features(booted.saved, booted.images)) < 1e-5
    expected = booted.hooked.decompose(booted.images, tokens=True)
    assert_same(found, expected)
    torch.testing.assert_close(found.tokens(1, 2), expected.tokens(1, 2), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.hook_resid_pre",
        "blocks.1.attn.hook_q",
        "blocks.1.attn.hook_pattern",
        "blocks.1.attn.hook_z",
        "blocks.2.hook_attn_out",
        "blocks.2.mlp.hook_post",
        "blocks.2.hook_resid_post",
    ],
)
@torch.no_grad()
def test_a_run_under_intervention_is_decomposed_as_a_hooked_clips(booted: Booted, name):
    def edit(x: torch.Tensor, hook: HookPoint) -> torch.Tensor:
        x = x.clone()
        x[:, :2] *= 0.3
        return x

    caches = []
    for model in (booted.bridge, booted.hooked):
        with model.hooks(fwd_hooks=[(name, edit)]):
            caches.append(model.run_with_cache(booted.images)[1])
    found, expected = decompose(booted.bridge, caches[0], strict=True), decompose(booted.hooked, caches[1], strict=True)
    assert distance(found.embedding, booted.hooked(booted.images)) > 1e-7
    assert_same(found, expected)


@torch.no_grad()
def test_an_edit_of_the_last_layer_norm_is_seen(booted: Booted):
    bridge, images = booted.bridge, booted.images
    with bridge.hooks(fwd_hooks=[("ln_final.hook_scale", lambda x, hook: 2 * x)]):
        output, cache = bridge.run_with_cache(images)
    found = decompose(bridge, cache, strict=True)
    assert distance(found.embedding, output) < 1e-5
    assert distance(output, bridge(images)) > 1e-3


@torch.no_grad()
def test_an_output_that_does_not_follow_from_the_cache_is_refused(booted: Booted):
    name = "ln_final.hook_out" if booted.hooked.cfg.pooling == "class_token" else "pool.hook_in"
    with booted.bridge.hooks(fwd_hooks=[(name, lambda x, hook: x + 1)]):
        _, cache = booted.bridge.run_with_cache(booted.images)
    with pytest.raises(ValueError, match="output of this run does not follow"):
        decompose(booted.bridge, cache)


@torch.no_grad()
def test_hooks_that_would_have_no_effect_are_refused(booted: Booted):
    with (
        booted.bridge.hooks(fwd_hooks=[("blocks.1.attn.hook_z", lambda x, hook: 0 * x)]),
        pytest.raises(ValueError, match=r"has hooks at blocks.1.attn.*no effect here"),
    ):
        as_hooked_clip(booted.bridge)
    assert isinstance(as_hooked_clip(booted.bridge), HookedCLIP)


def test_the_weights_are_the_bridges_own(booted: Booted):
    hooked = as_hooked_clip(booted.bridge)
    assert as_hooked_clip(booted.bridge) is hooked
    own = {id(parameter) for parameter in booted.bridge.original_model.parameters()}
    assert {id(parameter) for parameter in hooked.parameters()} <= own
    assert not {id(point) for point in hooked.hook_dict.values()} & {id(p) for p in booted.bridge.hook_dict.values()}


def test_another_precision_is_followed_and_nothing_is_kept_alive(tmp_path):
    bridge = boot(tmp_path / "model", clip_model(random_clip()))
    assert as_hooked_clip(bridge).cfg.dtype == torch.float32
    bridge.double()
    hooked = as_hooked_clip(bridge)
    assert hooked.cfg.dtype == torch.float64
    assert hooked.decompose(random_images(hooked), strict=True).completeness_error() < 1e-12
    gone = weakref.ref(bridge)
    del bridge
    gc.collect()
    assert gone() is None


def test_other_models_are_refused():
    with pytest.raises(TypeError, match=r"HookedCLIP.*TransformerBridge"):  # Here beartype is the first to refuse.
        as_hooked_clip(torch.nn.Linear(2, 2))
    unchecked = inspect.unwrap(as_hooked_clip)
    with pytest.raises(TypeError, match="must be a HookedCLIP or a TransformerBridge, got Linear"):
        unchecked(torch.nn.Linear(2, 2))


def test_text_span_maps_classes_and_ablation_take_a_bridge(with_texts, tmp_path):
    hooked = HookedCLIP.from_pretrained(f"transformers:{with_texts.cfg.model_name}")
    images, texts = random_images(hooked, 6), ["ab", "ba", "c", "dog", "cat"]
    moments = Moments.from_contributions(hooked.decompose(images))
    results = []
    for model in (with_texts, hooked):
        spans = text_span(model, moments, TextPool.from_strings(texts), 3, "all")
        classes = ZeroShotClassifier.from_labels(model, ["ab", "dog"])
        pattern_means = activation_means(model, images, "blocks.1.attn.hook_z")
        results.append(
            (
                [span.texts for span in spans],
                patch_text_map(model, images, ["ab"]).scores,
                head_text_scores(model, images[0], ["ab"]).scores,
                classes.cosines(hooked(images)),
                pattern_means["blocks.1.attn.hook_z"],
                class_self_attention_messages(model, images, [1])[1],
            )
        )
    assert results[0][0] == results[1][0]
    torch.testing.assert_close(results[0][1:], results[1][1:])


def test_a_collection_opens_with_either(with_texts, tmp_path):
    for i in range(3):
        Image.effect_noise((40, 40), 60 + i).convert("RGB").save(tmp_path / f"{i}.png")
    store = collect(with_texts, tmp_path, tmp_path / "store", progress=False)
    hooked = HookedCLIP.from_pretrained(f"transformers:{with_texts.cfg.model_name}")
    assert store.completeness_error < 1e-5
    torch.testing.assert_close(ContributionStore.open(tmp_path / "store", hooked).moments.mean, store.moments.mean)


def test_attention_is_shown_from_a_bridges_cache(booted: Booted):
    with torch.no_grad():
        _, cache = booted.bridge.run_with_cache(booted.images)
    assert "script" in attention_view(booted.bridge, cache, 1).html()


def test_the_conversion_is_public():
    assert "as_hooked_clip" in clip_lens_plugin.__all__
