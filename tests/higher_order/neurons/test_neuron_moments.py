"""Moments of neurons' scalars are sums over images: they add, stream, survive a file, and keep the greatest images."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from clip_lens_plugin import HookedCLIP, NeuronMoments
from clip_lens_plugin.higher_order.directions import NeuronDirections
from clip_lens_plugin.higher_order.neurons.greatest_effects import MOST
from clip_lens_plugin.higher_order.neurons.neurons import SecondOrder, second_order
from tests.conftest import random_clip, random_images
from tests.support.families import FAMILIES

NEURONS = [0, 3, 17, 30]
N = 40


def effects_of(clip: HookedCLIP, n: int = N, layer: int = 0) -> SecondOrder:
    return second_order(clip, random_images(clip, n), layer, NEURONS).normalized()


@pytest.fixture(scope="module")
def effects() -> SecondOrder:
    """Of 40 images in the plain tower, in float64; not to be changed."""
    return effects_of(HookedCLIP.from_open_clip(random_clip(dtype=torch.float64)))


@pytest.fixture(scope="module")
def siglip() -> HookedCLIP:
    return HookedCLIP.from_open_clip(FAMILIES["SigLIP"]().double())


def parts(effects: SecondOrder, cuts: list[int]) -> list[NeuronMoments]:
    directions = NeuronDirections(effects.readout, effects.layer, effects.neurons)
    return [
        NeuronMoments.none(directions).absorb(effects.scalars[a:b].flatten(2), torch.arange(a, b), directions)
        for a, b in zip([0, *cuts], [*cuts, len(effects)], strict=True)
    ]


def assert_same(found: NeuronMoments, expected: NeuronMoments) -> None:
    assert (found.n, found.layer, found.unit) == (expected.n, expected.layer, expected.unit)
    torch.testing.assert_close(found.sum_s, expected.sum_s, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(found.sum_ss, expected.sum_ss, rtol=1e-13, atol=1e-15)
    assert torch.equal(found.greatest.positions, expected.greatest.positions)
    torch.testing.assert_close(found.greatest.lengths, expected.greatest.lengths, rtol=1e-13, atol=0)
    assert torch.equal(found.greatest.scalars, expected.greatest.scalars)


def test_sums_are_those_of_all_scalars(effects):
    moments = NeuronMoments.from_effects(effects)
    s = effects.scalars.flatten(2).double()
    assert (moments.n, moments.neurons.tolist(), moments.sum_s.shape) == (N, NEURONS, (4, 8))
    for place in range(len(NEURONS)):
        torch.testing.assert_close(moments.mean[place], s[:, place].mean(0), rtol=1e-13, atol=1e-15)
        expected = torch.cov(s[:, place].T, correction=0)
        torch.testing.assert_close(moments.covariance()[place], expected, rtol=1e-9, atol=1e-14 * float(expected.max()))


def test_all_neurons_in_another_order_are_those_in_that_order(effects):
    clip = effects.readout.model
    order = list(range(clip.cfg.d_mlp))[::-1]
    turned = second_order(clip, random_images(clip, N), 0, order).normalized().scalars
    torch.testing.assert_close(turned[:, [order.index(neuron) for neuron in NEURONS]], effects.scalars)


def test_the_greatest_images_are_those_of_the_longest_effects(effects):
    greatest = NeuronMoments.from_effects(effects, start=100).greatest
    lengths = effects.effects().double().norm(dim=-1)
    expected = lengths.sort(dim=0, descending=True)
    assert greatest.positions.shape == (4, MOST)
    assert torch.equal(greatest.positions.T, expected.indices[:MOST] + 100)
    torch.testing.assert_close(greatest.lengths.T, expected.values[:MOST], rtol=1e-12, atol=0)
    for place in range(4):
        own = effects.scalars.flatten(2)[expected.indices[:MOST, place], place]
        assert torch.equal(greatest.scalars[place], own.float())


@pytest.mark.parametrize("cuts", [[1], [13, 14, 39], [5, 22]])
def test_parts_add_in_any_order(effects, cuts):
    whole, some = NeuronMoments.from_effects(effects), parts(effects, cuts)
    forwards, backwards = some[0], some[-1]
    for each in some[1:]:
        forwards = forwards + each
    for each in some[-2::-1]:
        backwards = backwards + each
    assert_same(forwards, whole)
    assert_same(backwards, whole)
    assert some[0].n == cuts[0], "Adding changed what was added to."
    assert_same(parts(effects, cuts)[0], some[0])


def test_equal_effects_stand_by_their_position(effects):
    one = effects.scalars[7:8].flatten(2)
    directions = NeuronDirections(effects.readout, 0, effects.neurons)
    twins = [
        NeuronMoments.none(directions).absorb(one, torch.tensor([position]), directions)
        for position in [8, 2, *range(100, 100 + MOST), 5]
    ]
    total = twins[0]
    for each in twins[1:]:
        total = total + each
    assert total.greatest.positions.tolist() == [[2, 5, 8, *range(100, 97 + MOST)]] * 4


def test_a_batch_is_added_in_place(effects):
    directions = NeuronDirections(effects.readout, 0, effects.neurons)
    moments, s = NeuronMoments.none(directions), effects.scalars.flatten(2)
    for rows in (range(12), range(12, 40)):
        before = moments.sum_ss.data_ptr()
        moments = moments.absorb(s[rows.start : rows.stop], torch.tensor(rows), directions)
        assert moments.sum_ss.data_ptr() == before
    assert_same(moments, NeuronMoments.from_effects(effects))


def test_file_round_trip(effects, tmp_path):
    moments = NeuronMoments.from_effects(effects)
    moments.save(tmp_path / "neurons.safetensors")
    loaded = NeuronMoments.load(tmp_path / "neurons.safetensors")
    assert_same(loaded, moments)
    assert (loaded.noise, loaded.neurons.tolist()) == (moments.noise, NEURONS)
    assert_same(loaded + moments.to(torch.device("cpu")), moments + moments)
    with pytest.raises(FileNotFoundError, match="of moments of neurons"):
        NeuronMoments.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    with pytest.raises(ValueError, match="holds no moments of neurons"):
        NeuronMoments.load(tmp_path / "bad.safetensors")
    cut = {**moments.to_tensors(), "sum_ss": moments.sum_ss[:2]}
    with pytest.raises(ValueError, match="do not fit each other"):
        NeuronMoments.from_tensors(cut)


def test_what_does_not_add_is_refused(effects):
    moments = NeuronMoments.from_effects(effects)
    readout = effects.readout
    other = NeuronMoments.none(NeuronDirections(readout, 0, torch.tensor([0, 3, 17, 31])))
    with pytest.raises(ValueError, match=r"other neurons do not add: 4 of layer 0, and 4 of layer 0, not the same"):
        moments + other
    with pytest.raises(ValueError, match="'cosine' and in 'embedding' units"):
        moments + NeuronMoments.none(NeuronDirections(readout, 0, torch.tensor(NEURONS)), "embedding")
    directions = NeuronDirections(readout, 1, torch.tensor(NEURONS))
    with pytest.raises(ValueError, match="directions are of other neurons"):
        moments.absorb(effects.scalars.flatten(2), torch.arange(N), directions)
    before = moments.sum_ss.clone()
    broken = effects.scalars.flatten(2).clone()
    broken[5, 1, 2] = float("nan")
    with pytest.raises(ValueError, match=r"positions \[105\] have NaN"):
        moments.absorb(broken, torch.arange(100, 100 + N), NeuronDirections(readout, 0, torch.tensor(NEURONS)))
    assert torch.equal(moments.sum_ss, before)


def principal_of(phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Direction, share and strength of effects [n, e], by the singular values of the centred effects."""
    _, values, axes = torch.linalg.svd(phi - phi.mean(0), full_matrices=False)
    return axes[0], values[0] ** 2 / (values**2).sum(), (values**2).sum().div(len(phi)).sqrt()


@pytest.mark.parametrize("name", ["plain", "SigLIP"])
def test_principal_directions_are_those_of_the_effects_themselves(name, effects, siglip):
    """SigLIP's heads are read by those of its attention pool."""
    clip = {"plain": effects.readout.model, "SigLIP": siglip}[name]
    effects = effects_of(clip)
    found = NeuronMoments.from_effects(effects).principal(clip)
    phi = effects.effects().double()
    for place in range(len(NEURONS)):
        axis, share, strength = principal_of(phi[:, place])
        assert 1 - float((found.directions[place] @ axis).abs()) <= 1e-12
        assert float((found.share[place] - share).abs()) <= 1e-10
        assert float((found.strength[place] / strength - 1).abs()) <= 1e-10
    torch.testing.assert_close(found.mean, phi.mean(0), rtol=1e-10, atol=1e-13)
    longest = phi.norm(dim=-1).sort(dim=0, descending=True).indices[:MOST]
    for place in range(len(NEURONS)):
        along = phi[longest[:, place], place] @ found.directions[place]
        torch.testing.assert_close(found.along[place], along, rtol=1e-4, atol=1e-6 * float(along.abs().max()))
    assert bool(((found.along > 0).sum(1) >= (found.along < 0).sum(1)).all())
    texts = torch.randn(5, clip.cfg.d_embed, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.towards(texts), found.directions @ texts.T)


def test_a_planted_direction_is_found_with_its_share_and_sign(effects):
    """Scalars move along one direction of theirs with nine times the variance of another, orthogonal in e."""
    directions = NeuronDirections(effects.readout, 0, torch.tensor([4, 9]))
    D = directions.of(slice(None))
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 2, D.shape[1], dtype=torch.float64, generator=generator)
    gram = D @ D.mT
    a = a / (a[:, None] @ gram @ a[..., None]).sqrt()[..., 0]
    b = b - (a[:, None] @ gram @ b[..., None])[..., 0] * a
    b = b / (b[:, None] @ gram @ b[..., None]).sqrt()[..., 0]
    first = torch.tensor([-9.0, 3.0, 3.0, 3.0]).double() / 12**0.5  # of mean 0 and variance 9 / 4
    second = torch.tensor([0.0, 1.0, -2.0, 1.0]).double() / 6**0.5  # uncorrelated, of variance 1 / 4
    s = first[:, None, None] * a + second[:, None, None] * b
    moments = NeuronMoments.none(directions, "embedding").absorb(s, torch.arange(4), directions)
    found = moments.principal(effects.readout.model)
    planted = (a[:, None] @ D)[:, 0]
    torch.testing.assert_close(found.directions, planted)
    torch.testing.assert_close(found.share, torch.full((2,), 0.9).double())
    torch.testing.assert_close(found.strength, torch.full((2,), 2.5).double().sqrt())
    assert moments.greatest.positions[:, 0].tolist() == [0, 0]


def test_neurons_that_do_nothing_have_no_direction(effects):
    directions = NeuronDirections(effects.readout, 0, effects.neurons)
    still = effects.scalars.flatten(2)[:1].expand(7, -1, -1)
    moments = NeuronMoments.none(directions).absorb(still, torch.arange(7), directions)
    found = moments.principal(effects.readout.model)
    assert torch.equal(found.directions, torch.zeros(4, 24).double())
    assert bool(found.share.isnan().all())
    assert torch.equal(found.strength, torch.zeros(4).double())
    assert bool((found.mean.norm(dim=1) > 0).all())
    with pytest.raises(ValueError, match="over no images"):
        NeuronMoments.none(directions).principal(effects.readout.model)


def test_another_model_is_refused(effects, siglip):
    moments = NeuronMoments.from_effects(effects)
    with pytest.raises(ValueError, match=r"8 scalars of a neuron, but .* has 32 for layer 0"):
        moments.principal(siglip)


def test_every_field_is_written(effects):
    moments = NeuronMoments.from_effects(effects)
    written = moments.to_tensors().keys()
    assert {each.name for each in fields(NeuronMoments)} - written == {"greatest"}
