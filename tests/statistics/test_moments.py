"""Moments are sums over images: they add, stream and survive a file."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, Moments
from tests.conftest import random_clip, random_images


def test_mean_and_covariance_are_those_of_the_images(model):
    contributions = model.decompose(random_images(model, 20))
    moments = Moments.from_contributions(contributions)
    y = contributions.head_coordinates
    for layer in range(3):
        for head in range(4):
            torch.testing.assert_close(moments.mean[layer, head], y[:, layer, head].mean(0))
            expected = torch.cov(y[:, layer, head].T, correction=0)
            torch.testing.assert_close(moments.covariance[layer, head], expected)
    mean_contribution = moments.mean[1, 2] @ contributions.readout.head_map(1, 2)
    torch.testing.assert_close(mean_contribution, contributions.heads[:, 1, 2].mean(0))


def test_moments_of_parts_add_to_those_of_the_whole(model):
    images = random_images(model, 11)
    whole = Moments.from_contributions(model.decompose(images))
    parts = Moments.from_contributions(model.decompose(images[:4])) + Moments.from_contributions(
        model.decompose(images[4:])
    )
    assert parts.n == whole.n == 11
    torch.testing.assert_close(parts.sum_y, whole.sum_y)
    torch.testing.assert_close(parts.sum_yy, whole.sum_yy)


def test_file_round_trip(model, tmp_path):
    moments = Moments.from_contributions(model.decompose(random_images(model)))
    moments.save(tmp_path / "moments.safetensors")
    loaded = Moments.load(tmp_path / "moments.safetensors")
    assert loaded.n == 3
    assert torch.equal(loaded.sum_yy, moments.sum_yy)


@pytest.mark.parametrize("constants", ["separate", "shared"])
def test_constants_go_with_the_moments(model, tmp_path, constants):
    contributions = model.decompose(random_images(model, 6), constants=constants).normalized()
    moments = Moments.from_contributions(contributions)
    assert (moments.constants, moments.sum_y.shape[-1]) == (constants, {"separate": 12, "shared": 15}[constants])
    M = contributions.readout.head_map(1, 2, constants)
    torch.testing.assert_close(moments.mean[1, 2] @ M, contributions.heads[:, 1, 2].mean(0))
    covariance = torch.cov(contributions.heads[:, 1, 2].T, correction=0)
    torch.testing.assert_close(M.T @ moments.covariance[1, 2] @ M, covariance)
    moments.save(tmp_path / "moments.safetensors")
    loaded = Moments.load(tmp_path / "moments.safetensors") + moments
    assert (loaded.constants, loaded.unit, loaded.noise) == (constants, "cosine", contributions.noise)
    assert 0 < contributions.noise < 1e-12
    old = {name: value for name, value in moments.to_tensors().items() if name not in ("constants", "noise")}
    assert (Moments.from_tensors(old).constants, Moments.from_tensors(old).noise) == ("separate", None)


def test_moments_of_both_constants_do_not_mix(model):
    images = random_images(model, 2)
    separate, shared = (
        Moments.from_contributions(model.decompose(images, constants=each)) for each in ("separate", "shared")
    )
    with pytest.raises(ValueError, match=r"constants='separate' and constants='shared' do not add"):
        separate + shared


def test_bad_files_and_foreign_moments_are_refused(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        Moments.load(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("no tensors here")
    with pytest.raises(ValueError, match="holds no moments"):
        Moments.load(tmp_path / "text")
    other = HookedCLIP.from_open_clip(random_clip({"vision_cfg": {"layers": 2}}, torch.float64))
    mine = Moments.from_contributions(model.decompose(random_images(model)))
    theirs = Moments.from_contributions(other.decompose(random_images(other)))
    with pytest.raises(ValueError, match="different models"):
        mine + theirs


def test_moments_of_some_layers_are_those_of_all_there(model, tmp_path):
    contributions = model.decompose(random_images(model, 9))
    whole, late = Moments.from_contributions(contributions), Moments.from_contributions(contributions, [-1, 1])
    assert (whole.layers, late.layers) == (None, (1, 2))
    assert torch.equal(late.mean, whole.mean)
    assert torch.equal(late.sum_yy, whole.sum_yy[1:])
    for layer, head in ((1, 0), (2, 3), (-1, 3)):
        torch.testing.assert_close(late.covariance_of(layer, head), whole.covariance[layer, head])
        assert torch.equal(late.second_moment(layer, head), whole.second_moment(layer, head))
    with pytest.raises(ValueError, match=r"Layer 0 is not .* of layers 1 to 2 alone.*heads='all'"):
        late.covariance_of(0, 3)
    with pytest.raises(ValueError, match=r"of layers 1 to 2 alone.*covariance_of"):
        _ = late.covariance
    late.save(tmp_path / "late.safetensors")
    both = Moments.load(tmp_path / "late.safetensors") + late
    assert (both.layers, both.n) == ((1, 2), 18)
    with pytest.raises(ValueError, match="all layers and of layers 1 to 2 do not add"):
        whole + late
    damaged = {**late.to_tensors(), "layers": torch.tensor([1, 3])}
    with pytest.raises(ValueError, match="sum_yy is of 2 layers"):
        Moments.from_tensors(damaged)
    assert Moments.from_contributions(contributions, range(3)).layers is None
    with pytest.raises(IndexError, match="no layer 3"):
        Moments.from_contributions(contributions, [3])


def test_a_batch_is_added_in_place(model):
    images = random_images(model, 11)
    first, second = model.decompose(images[:4]), model.decompose(images[4:])
    expected = Moments.from_contributions(first) + Moments.from_contributions(second)
    sums = Moments.from_contributions(first)
    grown = sums.absorb(second)
    assert grown.sum_yy.data_ptr() == sums.sum_yy.data_ptr()
    assert (grown.n, grown.noise) == (11, expected.noise)
    torch.testing.assert_close(grown.sum_yy, expected.sum_yy)
    torch.testing.assert_close(grown.sum_y, expected.sum_y)
    doubled = grown.absorb_sums(expected)
    assert (doubled.n, doubled.sum_yy.data_ptr()) == (22, sums.sum_yy.data_ptr())
    torch.testing.assert_close(doubled.sum_yy, 2 * expected.sum_yy)
    with pytest.raises(ValueError, match="units do not add"):
        doubled.absorb(second.normalized())
    assert doubled.n == 22


def test_heads_that_left_their_span_and_nan_are_refused(model):
    images = random_images(model)
    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_result", lambda r, hook: r + 1)]):
        edited = model.decompose(images)
    with pytest.raises(ValueError, match=r"layer 1.*hook_z"):
        Moments.from_contributions(edited)
    images[1] = float("nan")
    with pytest.warns(UserWarning, match="NaN"):
        broken = model.decompose(images)
    with pytest.raises(ValueError, match=r"positions \[1\]"):
        Moments.from_contributions(broken)
