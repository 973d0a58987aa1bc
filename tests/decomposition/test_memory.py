"""What a decomposition holds, once, and what it takes while it is made, counted in bytes of tensors and not in time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import torch

from clip_lens_plugin import HookedCLIP, decompose, mean_ablation_curve, patch_text_map
from clip_lens_plugin.ablation import Components, direct
from clip_lens_plugin.decomposition.contributions import MOST_MEASURED_TO_SHOW, Contributions
from clip_lens_plugin.maps.scoring import token_scores
from tests.conftest import EXTENDED, random_clip, random_images
from tests.support.families import FAMILIES
from tests.support.live_bytes import LiveBytes, held_storages

pytestmark = pytest.mark.slow

SMALL = {"vision_cfg": {"patch_size": 16}}
"""Four patches, so that a run of the model takes little beside what is kept of a few hundred images."""


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What is freed in the test is freed by its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def numbers_kept(model: HookedCLIP, tokens: bool = False, neurons: bool = False) -> int:
    """How many an image needs, written out from shapes: class token alone, float32."""
    cfg = model.cfg
    by_layer = cfg.d_model + 2 * cfg.d_embed  # Heads' coordinates; MLP and what the class token sends to itself.
    by_layer += 3 + 2  # What the constants are shared out by: three weights, and the means of those two.
    if tokens:
        by_layer += cfg.n_ctx * (cfg.d_model + cfg.n_heads)  # Values, and attention to each token.
    if neurons:
        by_layer += cfg.d_mlp
    return cfg.n_layers * by_layer + 2 * cfg.d_embed + 3  # Embedding, embed; ω, embed's mean, the error.


@pytest.mark.parametrize("kept", [{}, {"tokens": True}, {"neurons": True}])
def test_every_number_is_held_once(kept):
    model = HookedCLIP.from_open_clip(random_clip(SMALL))
    expected = 4 * numbers_kept(model, **kept)
    for n, batch_size in ((5, 5), (5, 2), (40, None)):
        contributions = model.decompose(random_images(model, n), batch_size=batch_size, **kept)
        held = held_storages(contributions).keys() - held_storages(contributions.readout).keys()
        found = held_storages(contributions)
        assert sum(found[storage] for storage in held) == n * expected
        again = held_storages([contributions, contributions.normalized()])
        assert sum(again.values()) - sum(found.values()) == 4 * n  # The norms.


@pytest.mark.parametrize(
    ("kept", "sizes"), [({}, (480, 640)), ({"tokens": True}, (160, 240)), ({"neurons": True}, (160, 240))]
)
def test_peak_is_at_most_a_fifth_above_what_is_held(without_collector, kept, sizes):
    model = HookedCLIP.from_open_clip(random_clip(SMALL))
    for n in sizes:
        images = random_images(model, n)
        with torch.no_grad(), LiveBytes() as live:
            contributions = model.decompose(images, **kept)
        held = n * 4 * numbers_kept(model, **kept)
        assert held <= live.now <= 1.01 * held + 4096
        assert live.peak <= 1.2 * held
        del contributions
        assert live.now == 0


@pytest.mark.parametrize("family", ["plain", "norm_then_mean", "clipa", "coca", "custom", "SigLIP", "EVA-02", "PE"])
@pytest.mark.parametrize("kept", [{}, {"tokens": True, "neurons": True}])
def test_runs_joined_are_one_run(family, kept):
    if "neurons" in kept and family in ("custom", "EVA-02"):
        kept = {"tokens": True}
    model = HookedCLIP.from_open_clip(FAMILIES[family]())
    images = random_images(model, 5)
    whole, joined = model.decompose(images, batch_size=5, **kept), model.decompose(images, batch_size=2, **kept)
    found, expected = joined._parts.tensors(), whole._parts.tensors()
    assert found.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-4)


def test_a_cached_run_keeps_no_activation_alive(tower, without_collector):
    images = random_images(tower)
    with torch.no_grad():
        _, cache = tower.run_with_cache(images)
        activations = held_storages(cache.cache_dict)
        contributions = decompose(tower, cache)
        assert not held_storages(contributions._parts).keys() & activations.keys()
        # Freed with the cache, which is what a view would prevent.
        left = [weakref.ref(each) for each in cache.cache_dict.values()]
        del cache
    assert not any(each() is not None for each in left)


@pytest.mark.parametrize("name", ["plain", "coca", "norm_then_mean"])
def test_nothing_outlives_what_is_returned(name, without_collector, tokenizer):
    """Not through a cycle either: the collector is off."""
    clip = random_clip(EXTENDED.get(name) or {"vision_cfg": {"pool_type": "avg"} if name != "plain" else {}})
    model = HookedCLIP.from_open_clip(clip, tokenizer=tokenizer)
    images, texts = random_images(model, 4), model.encode_text(["a dog", "a cat"])
    classes = torch.nn.functional.normalize(texts, dim=-1)
    calls = {
        "decompose": lambda: model.decompose(images, tokens=True, neurons=True),
        "cache": lambda: decompose(model, model.run_with_cache(images)[1]),
        "scores": lambda: token_scores(model, images, texts),
        "map": lambda: patch_text_map(model, images, ["a dog"], heads=1),
        "curve": lambda: mean_ablation_curve(model.decompose(images), classes, torch.tensor([0, 1, 0, 1])),
    }
    for what, call in calls.items():
        with torch.no_grad(), LiveBytes() as live:
            call()
        assert live.now == 0, what


def test_changes_of_an_ablation_are_freed_by_their_last_reference(model, without_collector):
    contributions = model.decompose(random_images(model)).normalized()
    classes = torch.eye(24, dtype=torch.float64)[:2]
    directions = contributions.readout.directions(classes)
    changes = direct._Changes(contributions, classes, directions, None, None)
    everything = Components.of_mlps(model, [0]) | Components.of_attention(model, [1])
    expected = (
        -(contributions.mlps[:, 0] + contributions.heads[:, 1].sum(1) + contributions.attn_bias[:, 1]) @ classes.T
    )
    torch.testing.assert_close(changes.of(everything), expected)
    torch.testing.assert_close(changes.of(everything), expected)
    freed = weakref.ref(changes)
    del changes
    assert freed() is None


def test_hooks_are_gone_after_an_error_in_the_middle_of_a_run(model):
    def stop(x, hook):
        raise RuntimeError("stopped")

    images = random_images(model)
    with model.hooks(fwd_hooks=[("blocks.2.hook_mlp_out", stop)]):
        for call in (model.decompose, lambda x: model.decompose(x, tokens=True), model.run_with_cache):
            with pytest.raises(RuntimeError, match="stopped"):
                call(images)
    assert not any(point.has_hooks() for point in model.hook_dict.values())


# ---------------------------------------------------------------------- the measured error


def test_repr_shows_the_measured_error_and_sums_nothing(model, monkeypatch):
    contributions = model.decompose(random_images(model, 5), batch_size=2)
    measured_again = contributions.completeness_error()
    stored = model.decompose(random_images(model, 5), batch_size=2)

    def refuse(*args):
        raise AssertionError("the sum was taken")

    monkeypatch.setattr("clip_lens_plugin.decomposition.contributions.relative_errors", refuse)
    for each in (stored, stored.normalized(), stored.select(torch.tensor([1, 0]))):
        assert "completeness_error=" in repr(each)
    assert f"completeness_error={measured_again:.1e}" in repr(contributions)
    many = torch.zeros(MOST_MEASURED_TO_SHOW + 1, dtype=torch.long)
    by_hand = Contributions(stored.readout, stored._parts.select(many))
    assert "completeness_error=not measured" in repr(by_hand)
    with pytest.raises(AssertionError, match="the sum was taken"):  # Of few rows it is.
        repr(Contributions(stored.readout, stored._parts))


def test_the_error_is_that_of_the_chosen_images(model):
    """The output of one image is changed, so that its parts alone do not sum to it."""
    images = random_images(model, 4)

    def spoil_third(x, hook):
        x[2] += 1
        return x

    with model.hooks(fwd_hooks=[("ln_final.hook_normalized", spoil_third)]), pytest.warns(UserWarning, match="not sum"):
        contributions = model.decompose(images, batch_size=4)
    total = contributions.stack()[0].sum(1)
    by_image = (total - contributions.embedding).norm(dim=-1) / contributions.embedding.norm(dim=-1)
    assert contributions.completeness_error() == pytest.approx(float(by_image.max()))
    assert by_image[2] > 1e-3
    good, bad = contributions.select(torch.tensor([0, 3, 1])), contributions.normalized().select(torch.tensor([3, 2]))
    for measured_again in (False, True):
        shown = [repr(each).partition("completeness_error=")[2].rstrip(")") for each in (good, bad)]
        assert float(shown[0]) < 1e-12, measured_again
        assert float(shown[1]) == pytest.approx(float(by_image[2]), rel=0.06)
        good.completeness_error(), bad.completeness_error()


def test_parts_are_not_read_through_weights_that_were_changed(model):
    """The folded weights are views, so that what is kept is small: contributions would be of two models at once."""
    images = random_images(model)
    contributions = model.decompose(images)
    assert contributions.completeness_error() < 1e-12
    with torch.no_grad():
        model.clip.visual.transformer.resblocks[1].attn.out_proj.weight.mul_(2)
    for use in (
        contributions.completeness_error,
        lambda: contributions.heads,
        lambda: contributions.towards(torch.eye(24, dtype=torch.float64)),
    ):
        with pytest.raises(ValueError, match="were changed since these contributions were made"):
            use()
    assert model.decompose(images).completeness_error() < 1e-12


@pytest.mark.parametrize("constants", ["apart", "spread"])
def test_total_is_the_sum_of_the_stack(tower, constants):
    contributions = tower.decompose(random_images(tower), constants=constants)
    torch.testing.assert_close(contributions.total(), contributions.stack()[0].sum(1))
    normalized = contributions.normalized()
    torch.testing.assert_close(normalized.total(), normalized.stack()[0].sum(1))


def test_the_check_takes_a_few_images_at_a_time(monkeypatch, without_collector):
    model = HookedCLIP.from_open_clip(random_clip(SMALL))
    contributions = model.decompose(random_images(model, 64))
    monkeypatch.setattr("clip_lens_plugin.decomposition.completeness.PIECE_BYTES", 2**12)
    with torch.no_grad(), LiveBytes() as live:
        found = contributions.completeness_error()
    assert live.peak < 4 * 64 * model.cfg.n_layers * model.cfg.n_heads * model.cfg.d_embed / 4
    monkeypatch.undo()
    assert contributions.completeness_error() == pytest.approx(found, rel=0.5)
