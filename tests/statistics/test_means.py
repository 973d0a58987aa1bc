"""Sums of components are those of a plain loop in float64; they add, survive tensors, and give means."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, decompose
from clip_lens_plugin.statistics.means import ComponentSums
from tests.conftest import random_clip, random_images

FIELDS = ("coordinates", "attn_bias", "mlps", "embed", "self_attention")


def assert_equal_sums(found: ComponentSums, expected: ComponentSums) -> None:
    assert (found.n, found.unit) == (expected.n, expected.unit)
    for name in FIELDS:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("unit", ["embedding", "cosine"])
def test_sums_are_those_of_a_plain_loop(unit):
    model = HookedCLIP.from_open_clip(random_clip())
    images = random_images(model, 7)
    contributions = model.decompose(images)
    norms = (
        model.clip.encode_image(images).detach().norm(dim=1).double() if unit == "cosine" else torch.ones(7).double()
    )
    sums = ComponentSums.from_contributions(contributions if unit == "embedding" else contributions.normalized())
    assert (sums.n, sums.unit) == (7, unit)
    for name in FIELDS:
        values = getattr(contributions, name if name != "coordinates" else "head_coordinates").double()
        expected = torch.zeros_like(values[0])
        for value, norm in zip(values, norms, strict=True):
            expected += value / norm
        assert getattr(sums, name).dtype == torch.float64
        torch.testing.assert_close(getattr(sums, name), expected, rtol=1e-5, atol=1e-5)


def test_the_mean_components_sum_to_the_mean_embedding(model):
    images = random_images(model, 6)
    mean = ComponentSums.from_contributions(model.decompose(images)).mean()
    readout = model.decompose(images[:1]).readout
    heads = sum(mean.coordinates[l, h] @ readout.head_map(l, h) for l in range(3) for h in range(4))
    found = mean.embed + heads + mean.attn_bias.sum(0) + mean.mlps.sum(0) + readout.beta_P
    torch.testing.assert_close(found.detach(), model.clip.encode_image(images).mean(0).detach())


def test_sums_of_parts_add_to_those_of_the_whole(model):
    images = random_images(model, 9)
    whole = ComponentSums.from_contributions(model.decompose(images))
    first, second = (ComponentSums.from_contributions(model.decompose(part)) for part in (images[:4], images[4:]))
    assert_equal_sums(first + second, whole)
    torch.testing.assert_close(whole.mean().mlps, whole.mlps / 9)
    assert whole.mean().n == 1


def test_tensors_round_trip(model):
    sums = ComponentSums.from_contributions(model.decompose(random_images(model)).normalized())
    assert_equal_sums(ComponentSums.from_tensors(sums.to_tensors()), sums)
    lacking = sums.to_tensors()
    del lacking["embed"]
    with pytest.raises(KeyError, match="embed"):
        ComponentSums.from_tensors(lacking)


def test_what_was_not_kept_is_nan(model):
    _, cache = model.run_with_cache(random_images(model), names_filter=lambda name: not name.endswith("hook_v"))
    sums = ComponentSums.from_contributions(decompose(model, cache))
    assert bool(sums.self_attention.isnan().all())
    assert bool(sums.mlps.isfinite().all())


def test_constants_go_with_the_sums(model):
    images = random_images(model, 5)
    contributions = model.decompose(images, constants="shared")
    sums = ComponentSums.from_contributions(contributions)
    mean, readout = ComponentSums.from_tensors(sums.to_tensors()).mean(), contributions.readout
    assert mean.constants == "shared"
    heads = sum(mean.coordinates[l, h] @ readout.head_map(l, h, "shared") for l in range(3) for h in range(4))
    found = mean.embed + heads + mean.mlps.sum(0)
    torch.testing.assert_close(found.detach(), model.clip.encode_image(images).mean(0).detach())
    assert not mean.attn_bias.any()
    old = {name: value for name, value in sums.to_tensors().items() if name != "constants"}
    assert ComponentSums.from_tensors(old).constants == "separate"
    with pytest.raises(ValueError, match=r"constants='shared' and constants='separate' do not add"):
        sums + ComponentSums.from_contributions(model.decompose(images))


def test_nan_is_refused_by_position(model):
    images = random_images(model)
    images[1] = float("nan")
    with pytest.warns(UserWarning, match="NaN"):
        broken = model.decompose(images)
    with pytest.raises(ValueError, match=r"positions \[1\]"):
        ComponentSums.from_contributions(broken)


def test_sums_that_do_not_belong_together_are_refused(model):
    contributions = model.decompose(random_images(model))
    sums = ComponentSums.from_contributions(contributions)
    with pytest.raises(ValueError, match="'embedding' and in 'cosine' units"):
        sums + ComponentSums.from_contributions(contributions.normalized())
    other = HookedCLIP.from_open_clip(random_clip({"vision_cfg": {"layers": 2}}, torch.float64))
    with pytest.raises(ValueError, match=r"\[3, 4, 12\] and \[2, 4, 12\]"):
        sums + ComponentSums.from_contributions(other.decompose(random_images(other)))
    with pytest.raises(ValueError, match="no images"):
        ComponentSums(**{**vars(sums), "n": 0}).mean()
