"""Effects of neurons: scalars times directions are what the terms of heads say, and what a frozen run loses."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pytest
import torch
from markupsafe import escape

from clip_lens_plugin import HookedCLIP, NeuronMoments, TextPool, neuron_scalars, second_order, upstream
from clip_lens_plugin.higher_order.frozen_run import frozen_run
from clip_lens_plugin.higher_order.neurons import neurons
from clip_lens_plugin.higher_order.neurons.neurons import SecondOrder
from clip_lens_plugin.higher_order.scalars import ScalarWatch
from clip_lens_plugin.numerics.noise import computed_noise
from tests.conftest import random_clip, random_images
from tests.higher_order.frozen import added_through
from tests.support.families import FAMILIES

pytestmark = pytest.mark.slow

NORMALISED = "EVA-02, post-norm"


@pytest.fixture(params=[name for name in FAMILIES if name != NORMALISED])
def tower(request: pytest.FixtureRequest) -> HookedCLIP:
    return HookedCLIP.from_open_clip(FAMILIES[request.param]().double())


def test_effects_sum_to_the_terms_of_later_heads(tower):
    images = random_images(tower)
    found = second_order(tower, images, 0, batch_size=2)
    terms = [upstream(tower, images, layer).mlps[:, :, 0].sum(1) for layer in found.later_layers]
    torch.testing.assert_close(found.total(), sum(terms), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(found.effects().sum(1), sum(terms), rtol=1e-11, atol=1e-13)


def test_a_neuron_through_a_head_is_what_a_frozen_run_loses_without_it(tower):
    images, layer, head, neuron = random_images(tower), 2, 3, 11
    found = second_order(tower, images, 0, [5, neuron])
    effect = torch.einsum("bp,pe->be", found.scalars[:, 1, 1, head], found.directions([neuron])[0, 1, head])
    _, cache = tower.run_with_cache(images)
    written = cache["blocks.0.mlp.hook_post"][:, :, neuron : neuron + 1] * tower.blocks[0].mlp.W_out[neuron]
    lost = added_through(tower, images, cache, layer, head, written)
    assert float((effect - lost).norm() / lost.norm()) < 1e-10


@pytest.fixture
def plain(model: HookedCLIP) -> HookedCLIP:
    return model


def test_scalars_restate_their_formula(plain):
    """``s = Σ_i ω A[0, i] act_i / σ_i`` of the class token's row, written out from the cache."""
    images = random_images(plain)
    _, cache = plain.run_with_cache(images)
    found = neuron_scalars(plain, images)
    assert {layer: tuple(s.shape) for layer, s in found.items()} == {0: (3, 192, 2, 4, 1), 1: (3, 192, 1, 4, 1)}
    omega = 1 / cache["ln_final.hook_scale"][:, 0, 0]
    for layer in (0, 1):
        for later in range(layer + 1, 3):
            row = cache["pattern", later][:, :, 0] / cache[f"blocks.{later}.ln1.hook_scale"][:, None, :, 0]
            expected = torch.einsum("b,bhi,bim->bmh", omega, row, cache["post", layer, "mlp"])
            torch.testing.assert_close(found[layer][:, :, later - layer - 1, :, 0], expected)


def test_lengths_and_scores_are_those_of_the_effects(plain):
    images, texts = random_images(plain), ["a b", "c"]
    found = second_order(plain, images, 1, range(0, 190, 9)).normalized()
    effects, embeddings = found.effects(), plain.encode_text(texts)
    torch.testing.assert_close(found.lengths(), effects.norm(dim=-1).double())
    torch.testing.assert_close(found.towards(texts), effects @ embeddings.T)
    norm = plain(images).norm(dim=-1)
    raw = second_order(plain, images, 1, range(0, 190, 9))
    torch.testing.assert_close(effects, raw.effects() / norm[:, None, None])
    table = found.to_dataframe()
    assert table["neuron"].tolist() == list(range(0, 190, 9))
    torch.testing.assert_close(torch.tensor(table["length_max"]), found.lengths().max(0).values)


def test_strongest_images_come_by_length(plain):
    found = second_order(plain, random_images(plain, 5), 0, [3, 70])
    strongest = found.strongest(70, 4)
    lengths = found.effects([70])[:, 0].norm(dim=-1)
    assert strongest["row"].tolist() == lengths.sort(descending=True).indices[:4].tolist()
    torch.testing.assert_close(torch.tensor(strongest["length"]), lengths.sort(descending=True).values[:4].double())


def test_pieces_do_not_change_scores(plain, monkeypatch):
    images, texts = random_images(plain), plain.encode_text(["a b", "c"])
    whole = second_order(plain, images, 0).towards(texts)
    monkeypatch.setattr("clip_lens_plugin.higher_order.neurons.neurons.PIECE_NUMBERS", 300)
    torch.testing.assert_close(second_order(plain, images, 0).towards(texts), whole)


def test_runs_of_any_size_give_the_same(plain):
    images = random_images(plain, 5)
    whole = neuron_scalars(plain, images, {0: [1, 2], 1: None}, batch_size=5)
    for size in (1, 2):
        parts = neuron_scalars(plain, images, {0: [1, 2], 1: None}, batch_size=size)
        for layer in (0, 1):
            torch.testing.assert_close(parts[layer], whole[layer], rtol=1e-12, atol=1e-14)


def test_ablated_neurons_have_no_effect(plain):
    def without(post, hook):
        return post.index_fill(-1, torch.tensor([8]), 0.0)

    with plain.hooks(fwd_hooks=[("blocks.0.mlp.hook_post", without)]):
        found = second_order(plain, random_images(plain), 0, [8, 9])
    assert float(found.lengths()[:, 0].max()) == 0.0
    assert float(found.lengths()[:, 1].min()) > 0.0


def test_neurons_that_are_normalised_together_are_refused_by_name():
    model = HookedCLIP.from_open_clip(FAMILIES[NORMALISED](), model_name="EVA02-X")
    with pytest.raises(ValueError, match="layer 0 of EVA02-X normalises"):
        second_order(model, random_images(model), 0)


@pytest.mark.parametrize(
    ("layer", "neurons", "error", "message"),
    [
        (2, None, ValueError, "Layer 2 is the last"),
        (-1, None, ValueError, "Layer 2 is the last"),
        (7, None, IndexError, "no layer 7"),
        (0, [192], IndexError, "no neuron 192"),
        (0, [], ValueError, "at least one"),
        (0, "all", ValueError, "neurons"),
    ],
)
def test_neurons_that_are_not_there_are_named(plain, layer, neurons, error, message):
    with pytest.raises(error, match=message):
        second_order(plain, random_images(plain), layer, neurons)


def test_neurons_that_were_not_chosen_are_named(plain):
    found = second_order(plain, random_images(plain), 0, [3, 4])
    with pytest.raises(ValueError, match="Neuron 5 of layer 0"):
        found.effects([3, 5])
    with pytest.raises(ValueError, match="count"):
        found.strongest(3, 0)


@pytest.mark.parametrize("given", [3, "4,5", [], 1.5])
def test_layers_are_given_in_a_list(plain, given):
    with pytest.raises(ValueError, match="by layers in a list"):
        neuron_scalars(plain, random_images(plain), given)


def test_half_precision_is_read_in_float32():
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.bfloat16))
    found = second_order(model, random_images(model), 0, [1])
    assert found.scalars.dtype == torch.float32
    wide = HookedCLIP.from_open_clip(random_clip(dtype=torch.bfloat16).double())
    expected = second_order(wide, random_images(model).double(), 0, [1]).scalars
    assert float((found.scalars - expected).norm() / expected.norm()) < 0.05


def test_scalars_of_a_run_are_taken_in_full_precision(plain):
    watch = ScalarWatch(plain, {0: torch.arange(192), 1: torch.arange(5)})
    run = frozen_run(plain.float(), random_images(plain).float(), watch.readers, watch.keep())
    expected = dict(watch.scalars(run))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = dict(watch.scalars(run))
    for layer in (0, 1):
        torch.testing.assert_close(found[layer], expected[layer], rtol=0, atol=0)


def test_moments_know_what_their_scalars_were_rounded_to():
    model = HookedCLIP.from_open_clip(random_clip())
    plain = NeuronMoments.from_effects(second_order(model, random_images(model), 0, [1]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = NeuronMoments.from_effects(second_order(model, random_images(model), 0, [1]))
    assert plain.noise == computed_noise(torch.float32)
    assert coarse.noise == computed_noise(torch.bfloat16)


def test_a_neuron_is_taken_once(plain):
    found = second_order(plain, random_images(plain), 0, [9, 3, 9, -189])
    assert found.neurons.tolist() == [9, 3]
    torch.testing.assert_close(found.total(), found.effects([3, 9]).sum(1))
    with pytest.raises(ValueError, match="Layer 0 was given twice, the second time as -3"):
        neuron_scalars(plain, random_images(plain), {0: [1], -3: [2]})


@pytest.mark.parametrize("layer", [[0], "0", None, 0.0, {0}])
def test_what_is_no_number_of_a_layer_is_refused(plain, monkeypatch, layer):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # As outside of the tests.
    with pytest.raises(ValueError, match="number of a layer"):
        second_order(plain, random_images(plain), layer)
    with pytest.raises(ValueError, match="number of a layer"):
        neuron_scalars(plain, random_images(plain), [layer])


def test_layers_in_an_array(plain, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    images = random_images(plain)
    assert list(neuron_scalars(plain, images, np.array([1, 0]))) == [0, 1]
    assert second_order(plain, images, np.array(1), [0]).layer == 1


def test_texts_are_taken_in_any_form(plain):
    found = second_order(plain, random_images(plain), 0, [1])
    embeddings = plain.encode_text(["a b", "c"])
    expected = found.effects() @ embeddings.T
    for given in (["a b", "c"], TextPool(["a b", "c"]), (each for each in ("a b", "c")), embeddings):
        torch.testing.assert_close(found.towards(given), expected)
    torch.testing.assert_close(found.towards("c"), expected[..., 1:])
    for given, message in ((embeddings[:0], "got none"), ([], "got none"), (embeddings.numpy(), "towards")):
        with pytest.raises(ValueError, match=message):
            found.towards(given)


@pytest.mark.parametrize("name", ["attn.in_proj_weight", "mlp.c_proj.weight"])
def test_effects_are_not_of_two_models_at_once(plain, name):
    found = second_order(plain, random_images(plain), 0, [1])
    neurons = plain.decompose(random_images(plain), neurons=True)
    block = plain.clip.visual.transformer.resblocks[0 if "mlp" in name else 1]
    with torch.no_grad():
        block.get_parameter(name).mul_(2)
    for asked in (lambda: found.effects(), lambda: found.towards(torch.ones(1, 24)), lambda: neurons.neurons(0)):
        with pytest.raises(ValueError, match="of two models at once"):
            asked()


def test_runs_join_to_one_and_some_neurons_are_taken_of_it(plain):
    images = random_images(plain)
    whole = second_order(plain, images, 0, [5, 7, 11])
    joined = SecondOrder.joined([second_order(plain, images[rows], 0, [5, 7, 11]) for rows in (slice(2), slice(2, 3))])
    torch.testing.assert_close(joined.scalars, whole.scalars)
    torch.testing.assert_close(joined.normalized().effects(), whole.normalized().effects())
    assert len(joined.names) == len(joined) == 3
    some = joined.of_neurons([11, 5])
    torch.testing.assert_close(some.effects(), whole.effects()[:, [2, 0]])
    torch.testing.assert_close(
        NeuronMoments.from_effects(whole).of_neurons(plain, [11, 5]).sum_ss, NeuronMoments.from_effects(some).sum_ss
    )
    with pytest.raises(ValueError, match="Neuron 6 of layer 0 is not among the 3"):
        NeuronMoments.from_effects(whole).of_neurons(plain, [6])
    with pytest.raises(ValueError, match="got none"):
        SecondOrder.joined([])
    for other in (second_order(plain, images, 0, [5]), whole.normalized(), second_order(plain, images, 1, [5, 7, 11])):
        with pytest.raises(ValueError, match="do not join"):
            SecondOrder.joined([whole, other])


def test_a_notebook_is_not_kept_waiting(plain, monkeypatch):
    effects = second_order(plain, random_images(plain), 0)
    assert "<table" in effects._repr_html_()
    monkeypatch.setattr(neurons, "AT_A_GLANCE", 1)
    assert effects._repr_html_() == f"<p>{escape(repr(effects))}</p>"
