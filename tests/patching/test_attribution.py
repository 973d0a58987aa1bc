"""Estimates are first-order changes, exact values stand beside them, and the wrong sign that is there is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor

from clip_lens_plugin import AttributionPatching, HookedCLIP, HookedText, attribution_patching, patch_heads
from clip_lens_plugin.scenes import draw, sample_scenes
from tests.conftest import random_clip, random_images
from tests.patching.single_runs import single_runs, toward_own
from tests.support.families import FAMILIES
from tests.support.text_families import TEXT_FAMILIES, some_ids

pytestmark = pytest.mark.slow

POINTS = {"heads": "blocks.{}.attn.hook_z", "neurons": "blocks.{}.mlp.hook_post"}


@pytest.fixture(scope="module")
def model() -> HookedCLIP:
    return HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))


@pytest.fixture(scope="module")
def pairs(model) -> tuple[Tensor, Tensor]:
    return random_images(model, 3), random_images(model, 3, seed=1)


def slope(model: Any, corrupted: Tensor, clean: Tensor, metric: Any, name: str, number: int) -> Tensor:
    """The metric's change [b] for a small step of one head or neuron towards the clean run, from both sides."""
    donor = model.run_with_cache(clean, names_filter=name)[1][name]

    def stepped(step: float) -> Tensor:
        def move(x: Tensor, hook: Any) -> Tensor:
            x[:, :, number] += step * (donor[:, :, number] - x[:, :, number])
            return x

        return metric(model.run_with_hooks(corrupted, fwd_hooks=[(name, move)]))

    return (stepped(1e-5) - stepped(-1e-5)) / 2e-5


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("custom", "heads"),
        ("SigLIP", "heads"),
        ("text", "heads"),
        ("EVA-02, post-norm", "neurons"),
        ("text", "neurons"),
    ],
)
def test_an_estimate_is_the_slope_towards_the_clean_run(name, kind):
    model: Any
    if name == "text":
        model, corrupted, clean = HookedText(TEXT_FAMILIES["CoCa"]().double()), some_ids(3), some_ids(4)[1:]
    else:
        model = HookedCLIP.from_open_clip(FAMILIES[name]().double(), model_name=name)
        corrupted, clean = random_images(model, 3), random_images(model, 3, seed=1)
    metric = toward_own(model, 3)
    found = attribution_patching(model, corrupted, clean, metric, check=2, kind=kind, batch_size=8)
    count = {"heads": model.cfg.n_heads, "neurons": model.cfg.d_mlp}[kind]
    assert found.estimates.shape == (3, model.cfg.n_layers, count)
    with torch.no_grad():
        for layer, number in [(0, 1), (1, count - 1), (2, 0)]:
            expected = slope(model, corrupted, clean, metric, POINTS[kind].format(layer), number)
            torch.testing.assert_close(found.estimates[:, layer, number], expected, rtol=1e-6, atol=1e-9)
    for at, (layer, number) in enumerate(found.checked):
        single = single_runs(model, corrupted, clean, metric, POINTS[kind].format(layer), [number])[:, 0]
        torch.testing.assert_close(found.exact[:, at], single, rtol=0, atol=1e-12)


def test_the_greatest_and_as_many_others_are_measured(model, pairs):
    metric = toward_own(model, 3)
    found = attribution_patching(model, *pairs, metric, check=3, seed=4)
    assert len(found.checked) == len(set(found.checked)) == 6
    assert list(found.checked) == sorted(found.checked)
    size = found.estimates.abs().mean(0)
    assert found.greatest == {divmod(int(at), 4) for at in size.flatten().topk(3).indices}
    whole = patch_heads(model, *pairs, metric).effects
    for at, (layer, head) in enumerate(found.checked):
        torch.testing.assert_close(found.exact[:, at], whole[:, layer, head], rtol=0, atol=1e-12)
    again = attribution_patching(model, *pairs, metric, check=3, seed=4, batch_size=1)
    assert again.checked == found.checked
    torch.testing.assert_close(again.estimates, found.estimates, rtol=0, atol=1e-12)
    others = {attribution_patching(model, *pairs, metric, check=3, seed=seed).checked for seed in range(3)}
    assert len(others) > 1
    every = attribution_patching(model, *pairs, metric)
    assert every.checked == tuple((l, h) for l in range(3) for h in range(4))
    torch.testing.assert_close(every.exact, whole.flatten(1), rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def red_into_blue():
    """The embedded model, and scenes in red with the same in blue; how much more blue than red the embedding is."""
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    scenes = [each for each in sample_scenes(60, seed=3) if each.colour == "red"]
    red, blue = ([draw(replace(each, colour=colour)) for each in scenes] for colour in ("red", "blue"))
    texts = model.encode_text(["blue shape", "red shape"])

    def metric(embedding: Tensor) -> Tensor:
        return torch.nn.functional.normalize(embedding, dim=-1) @ (texts[0] - texts[1])

    return model, model.prepare(red), model.prepare(blue), metric


def test_the_head_that_carries_colour_most_is_estimated_with_the_wrong_sign(red_into_blue):
    """And is found to be, since it is measured: in a plain run of its own it turns the answer towards blue."""
    model, red, blue, metric = red_into_blue
    found = attribution_patching(model, red, blue, metric)
    assert found.wrong_sign[0] == (3, 7)
    single = single_runs(model, red, blue, metric, "blocks.3.attn.hook_z", range(8)).double().mean(0)
    assert single[7] == pytest.approx(0.0979, abs=5e-4)
    assert found.estimates.mean(0)[3, 7] == pytest.approx(-0.0217, abs=5e-4)
    row = found.checks().query("layer == 3 and head == 7").iloc[0]
    assert row["exact"] == pytest.approx(float(single[7]), abs=1e-6)
    assert row["wrong_sign"]
    assert row["wrong_pairs"] == 3
    assert abs(found.exact.mean(0)).max() == abs(row["exact"])
    assert found.correlation < 0.7
    assert "L3H7 -0.022 for +0.098" in repr(found)


def test_neurons_of_the_same_are_well_estimated(red_into_blue):
    found = attribution_patching(*red_into_blue, kind="neurons")
    assert found.estimates.shape == (4, 6, 512)
    assert found.correlation > 0.99
    assert "none of the wrong sign" in repr(found)


# ---------------------------------------------------------------------- the model is as it was


@pytest.mark.parametrize("frozen", [False, True])
def test_parameters_get_no_gradients_and_keep_what_they_ask_for(frozen, pairs):
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))
    model.clip.visual.conv1.weight.requires_grad_(False)
    if frozen:
        model.clip.requires_grad_(False)
    asked = [each.requires_grad for each in model.clip.parameters()]
    metric = toward_own(model, 3)
    found = attribution_patching(model, *pairs, metric, check=1)
    assert [each.requires_grad for each in model.clip.parameters()] == asked
    assert all(each.grad is None for each in model.clip.parameters())
    assert not found.estimates.requires_grad
    assert all(not point.has_hooks() for point in model.hook_dict.values())
    with torch.no_grad():
        without = attribution_patching(model, *pairs, metric, check=1)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        inside = attribution_patching(model, *(each.clone() for each in pairs), metric, check=1)
    for each in (without, inside):
        torch.testing.assert_close(each.estimates, found.estimates, rtol=0, atol=1e-12)


def test_hooks_of_a_context_are_on_all_runs(model, pairs):
    metric, frozen = toward_own(model, 3), model.run_with_cache(pairs[0])[1]
    scales = [
        (name, lambda x, hook: frozen[hook.name]) for name in model.hook_dict if name.endswith(("scale", "pattern"))
    ]
    with torch.no_grad(), model.hooks(fwd_hooks=scales):
        found = attribution_patching(model, *pairs, metric, check=1, batch_size=12)
        for layer, head in [(0, 1), *found.checked]:
            name = f"blocks.{layer}.attn.hook_z"
            expected = slope(model, *pairs, metric, name, head)
            torch.testing.assert_close(found.estimates[:, layer, head], expected, rtol=1e-6, atol=1e-9)
        single = single_runs(model, *pairs, metric, f"blocks.{found.checked[0][0]}.attn.hook_z", [found.checked[0][1]])
        torch.testing.assert_close(found.exact[:, :1], single, rtol=0, atol=1e-12)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("metric", "changed", "message"),
    [
        (lambda e: e[:, 0], {"check": 0}, "check must be a whole number of at least 1, got 0"),
        (lambda e: e[:, 0], {"kind": "layers"}, "kind must be 'heads' or 'neurons', got 'layers'"),
        (lambda e: e[:, 0], {"seed": -1}, "seed must be a whole number of at least 0"),
        (lambda e: e.detach()[:, 0], {}, "no gradient with respect to the embedding.*patch_heads takes any"),
        (lambda e: e[:, 0].softmax(0), {}, "depends on other pairs' embeddings"),
        (lambda e: (e - e.mean(0))[:, 0], {}, "depends on other pairs' embeddings"),
        (lambda e: torch.cat([e[:1, 0], e[1:, 0] + e[:-1, 1]]), {}, "depends on other pairs' embeddings"),
        (lambda e: torch.ones(len(e), requires_grad=True) * 1.0, {}, "no gradient with respect to the embedding"),
        (lambda e: (e[:, 0] * 0).sqrt(), {}, "gradient is NaN or infinite, first at layer 0, head 0 of pair 0"),
    ],
)
def test_what_gives_no_estimates(model, pairs, monkeypatch, metric, changed, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # As outside of the tests.
    with pytest.raises(ValueError, match=message):
        attribution_patching(model, *pairs, metric, **changed)


# ---------------------------------------------------------------------- the result


@pytest.fixture
def planted() -> AttributionPatching:
    """Two pairs, two layers of three heads: four measured, one with the wrong sign, one with rounding of another."""
    estimates = torch.tensor(
        [[[4.0, 1.0, 0.0], [-2.0, 1e-9, 0.5]], [[6.0, 3.0, 0.0], [-4.0, 1e-9, 0.5]]], dtype=torch.float64
    )
    checked = ((0, 0), (0, 1), (1, 0), (1, 1))
    exact = torch.tensor([[5.0, 2.0, 3.0, -1e-9], [7.0, 2.0, -1.0, -1e-9]], dtype=torch.float64)
    greatest = frozenset([(0, 0), (1, 0)])
    without = torch.tensor([-1.0, -3.0], dtype=torch.float64)
    return AttributionPatching("heads", estimates, without, -without, checked, greatest, exact, noise=1e-6)


def test_numbers_of_what_was_measured(planted):
    table = planted.checks()
    assert table["estimate"].tolist() == pytest.approx([5.0, 2.0, -3.0, 1e-9])
    assert table["exact"].tolist() == pytest.approx([6.0, 2.0, 1.0, -1e-9])
    assert table["chosen"].tolist() == ["greatest", "random", "greatest", "random"]
    assert table["wrong_sign"].tolist() == [False, False, True, False]
    assert table["wrong_pairs"].tolist() == [0, 0, 1, 0]
    assert planted.wrong_sign == ((1, 0),)
    one, other = [4, 1, -2, 0, 6, 3, -4, 0], [5, 2, 3, 0, 7, 2, -1, 0]
    assert planted.correlation == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert planted.random_correlation == pytest.approx(np.corrcoef([1, 0, 3, 0], [2, 0, 2, 0])[0, 1])
    assert np.isnan(replace(planted, greatest=frozenset(planted.checked)).random_correlation)


def test_the_table_has_every_head_and_what_is_known_of_it(planted):
    table = planted.to_dataframe()
    assert len(table) == 6
    assert table["estimate"].tolist() == pytest.approx([5.0, 2.0, 0.0, -3.0, 1e-9, 0.5])
    assert table["exact"].isna().tolist() == [False, False, True, False, False, True]
    assert table["wrong_sign"].isna().tolist() == [False, False, True, False, False, True]
    assert bool(table["wrong_sign"][3])
    assert list(replace(planted, kind="neurons").to_dataframe().columns)[:3] == ["layer", "neuron", "estimate"]
    assert "1 of the wrong sign, L1H0 -3 for +1" in repr(planted)
