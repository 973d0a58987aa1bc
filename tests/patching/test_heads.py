"""Patched heads are those of single runs, on every kind of tower, and of TransformerLens's own loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor
from transformer_lens import patching

from clip_lens_plugin import HookedCLIP, HookedText, image_tokens, patch_heads
from clip_lens_plugin.model.hooks.interventions import active_hooks
from clip_lens_plugin.model.inputs.pixels import PixelError
from clip_lens_plugin.scenes import draw, sample_scenes
from tests.adapters.conversion import siglip_model
from tests.bridge.conftest import boot
from tests.conftest import random_clip, random_images
from tests.patching.single_runs import every_head, toward_own
from tests.support.families import FAMILIES, SIGLIP, vit
from tests.support.text_families import TEXT_FAMILIES, some_ids

pytestmark = pytest.mark.slow

OF_IMAGES = [
    *("plain", "custom", "SigLIP with registers", "registers, mean"),
    *("EVA-02", "EVA-02, post-norm", "PE, no class token"),
]
"""Among them LayerScale, norms after the heads and after W_O, attention pools, means, registers, rotary positions."""

OF_TEXTS = ["OpenAI's", "CoCa"]
"""With a mask for all texts, and with one for each."""


@pytest.fixture(scope="module")
def model() -> HookedCLIP:
    return HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_head_is_that_of_a_run_of_its_own(name):
    model = HookedCLIP.from_open_clip(FAMILIES[name]().double(), model_name=name)
    corrupted, clean = random_images(model, 2), random_images(model, 2, seed=1)
    metric = toward_own(model, 2)
    found, expected = patch_heads(model, corrupted, clean, metric), every_head(model, corrupted, clean, metric)
    assert_same(found.effects, expected)
    assert expected.abs().amin() > 1e-9, "a head that does nothing would show nothing"
    with torch.no_grad():
        assert_same(found.corrupted, metric(model(corrupted)))
        assert_same(found.clean, metric(model(clean)))


@pytest.mark.parametrize("name", OF_TEXTS)
def test_of_texts_too(name):
    model = HookedText(TEXT_FAMILIES[name]().double())
    corrupted, clean = some_ids(3), some_ids(4)[1:]
    metric = toward_own(model, 3)
    found = patch_heads(model, corrupted, clean, metric, batch_size=7)
    assert_same(found.effects, every_head(model, corrupted, clean, metric))
    assert found.effects.abs().amax() > 1e-3


def test_of_a_bridge(tmp_path):
    bridge: Any = boot(tmp_path / "model", siglip_model(vit(**SIGLIP)))
    images = random_images(HookedCLIP.from_transformers(siglip_model(vit(**SIGLIP))), 4)
    metric = lambda e: e.double().norm(dim=-1)  # noqa: E731
    found = patch_heads(bridge, images[:2], images[2:], metric)
    expected = every_head(bridge, images[:2], images[2:], lambda e: metric(getattr(e, "logits", e)))
    torch.testing.assert_close(found.effects, expected, rtol=1e-4, atol=1e-5)


def test_transformer_lens_gives_the_same(model):
    corrupted, clean = random_images(model, 3), random_images(model, 3, seed=1)
    metric = toward_own(model, 3)
    with torch.no_grad():
        cache = model.run_with_cache(clean)[1]
        tokens: Any = image_tokens(model, corrupted)
        loop = patching.get_act_patch_attn_head_out_all_pos(model, tokens, cache, metric, reduce="none", baseline=True)
    found = patch_heads(model, corrupted, clean, metric)
    whole = found.effects + found.corrupted[:, None, None]
    torch.testing.assert_close(whole, loop.values.double().movedim(-1, 0), rtol=0, atol=1e-6)  # It stores float32.


@pytest.mark.parametrize("batch_size", [1, 5])
def test_runs_of_any_size_give_the_same(model, batch_size):
    corrupted, clean = random_images(model, 3), random_images(model, 3, seed=1)
    metric = toward_own(model, 3)
    found = patch_heads(model, corrupted, clean, metric, batch_size=batch_size)
    assert_same(found.effects, every_head(model, corrupted, clean, metric))


def test_hooks_of_a_context_act_as_in_single_runs(model):
    """Among them one that tells the images of a run apart, and one that keeps count of runs."""
    corrupted, clean = random_images(model, 3), random_images(model, 3, seed=1)
    metric = toward_own(model, 3)
    scale = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)[:, None, None]
    runs = []
    hooks = [
        ("blocks.0.hook_mlp_out", lambda x, hook: x * scale),
        ("blocks.1.attn.hook_z", lambda x, hook: x.flip(2)),
        ("blocks.2.attn.hook_pattern", lambda x, hook: x.softmax(-1)),
        ("hook_embed", lambda x, hook: runs.append(len(x))),
    ]
    with model.hooks(fwd_hooks=hooks):
        found = patch_heads(model, corrupted, clean, metric)
        n_heads = model.cfg.n_layers * model.cfg.n_heads
        assert runs == [3] * (2 + model.cfg.n_layers + n_heads)
        assert_same(found.effects, every_head(model, corrupted, clean, metric))
    assert (found.effects - patch_heads(model, corrupted, clean, metric).effects).abs().max() > 1e-3


def test_hooks_that_were_left_are_refused(model):
    images = random_images(model, 1)
    model.add_hook("blocks.0.hook_mlp_out", lambda x, hook: x)
    with pytest.raises(ValueError, match=r"hooks were left on blocks\.0\.hook_mlp_out"):
        patch_heads(model, images, images, lambda e: e[:, 0])
    model.reset_hooks()


def test_nothing_is_left_where_the_metric_raises(model):
    """After the baselines, so that it raises among the patched runs."""
    images, calls = random_images(model, 2), []

    def metric(embedding: Tensor) -> Tensor:
        calls.append(embedding)
        if len(calls) == 4:
            raise KeyError("mine")
        return embedding[:, 0]

    with pytest.raises(KeyError, match="mine"):
        patch_heads(model, images, images.flip(0), metric)
    assert active_hooks(model) == []
    assert torch.is_grad_enabled()


def test_pictures_and_numbers_in_a_table():
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    scenes = [replace(each, colour="red") for each in sample_scenes(2, seed=2)]
    red, blue = ([draw(replace(each, colour=colour)) for each in scenes] for colour in ("red", "blue"))
    found = patch_heads(model, red, blue, lambda e: e[:, 0], batch_size=8, progress=True)
    same = patch_heads(model, model.prepare(red), image_tokens(model, model.prepare(blue)), lambda e: e[:, 0])
    torch.testing.assert_close(found.effects, same.effects, atol=1e-4, rtol=0)
    table = found.to_dataframe()
    assert list(table.columns) == ["layer", "head", "effect_mean", "effect_std"]
    row = table[(table["layer"] == 3) & (table["head"] == 7)].iloc[0]
    of_head = found.effects[:, 3, 7]
    assert row["effect_mean"] == pytest.approx(float(of_head.mean()))
    assert row["effect_std"] == pytest.approx(float(of_head.numpy().std()))
    greatest = table.loc[table["effect_mean"].abs().idxmax()]
    assert f"greatest effect L{greatest['layer']:.0f}H{greatest['head']:.0f}: {greatest['effect_mean']:+.4g}" in repr(
        found
    )


@pytest.mark.parametrize(
    ("metric", "error", "message"),
    [
        (lambda e: e.mean(), ValueError, r"it gave torch\.float64 of shape \[\]\. Leave out the mean or sum"),
        (lambda e: e, ValueError, r"shape \[2, 24\] it gave torch\.float64 of shape \[2, 24\]"),
        (lambda e: e.argmax(-1), ValueError, r"it gave torch\.int64 of shape \[2\]"),
        (lambda e: e[:1, 0], ValueError, r"of shape \[1\]"),
        (lambda e: [0.0, 1.0], TypeError, r"it gave \[0\.0, 1\.0\] of type list"),
        ("accuracy", TypeError, r"got 'accuracy' of type str as metric"),
        (lambda e: e[:, 0] / torch.tensor([1.0, 0.0]), ValueError, r"of the corrupted inputs is -?inf for pair 1"),
        (lambda e: e[:, 0] * torch.nan, ValueError, r"is nan for pair 0 and 1 more"),
    ],
)
def test_metrics_that_are_none_are_refused_before_the_work(model, monkeypatch, metric, error, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # As outside of the tests.
    monkeypatch.setattr("clip_lens_plugin.patching.heads.effects", pytest.fail)
    images = random_images(model, 2)
    with pytest.raises(error, match=message):
        patch_heads(model, images, images, metric)


def test_a_metric_that_breaks_on_a_patched_run_is_said_and_loses_nothing(model):
    corrupted, clean = random_images(model, 2), random_images(model, 2, seed=1)
    plain = patch_heads(model, corrupted, clean, lambda e: e[:, 0]).effects
    bound = float(plain.max()) * 0.999

    with torch.no_grad():
        base = model(corrupted)[:, 0]
    with pytest.warns(UserWarning, match=r"NaN or infinite in 1 patched runs, first with layer \d, head \d of pair \d"):
        found = patch_heads(model, corrupted, clean, lambda e: torch.where(e[:, 0] - base > bound, torch.nan, e[:, 0]))
    at = found.effects.isnan()
    assert int(at.sum()) == 1
    assert_same(found.effects[~at], plain[~at])


def test_inputs_that_are_no_pairs_are_refused(model, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # As outside of the tests.
    images = random_images(model, 3)
    broken = images.clone()
    broken[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="got 3 corrupted and 2 clean"):
        patch_heads(model, images, images[:2], lambda e: e[:, 0])
    with pytest.raises(PixelError, match="NaN or infinite in image 1"):
        patch_heads(model, images, broken, lambda e: e[:, 0])
    for size in (0, 1.5, True):
        with pytest.raises(ValueError, match="batch_size must be a whole number"):
            patch_heads(model, images, images, lambda e: e[:, 0], batch_size=size)  # type: ignore[arg-type]
