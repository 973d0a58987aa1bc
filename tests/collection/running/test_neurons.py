"""Moments of neurons, collected in the runs that are made anyway: as exact, resumable and checked as the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import TensorDataset

from clip_lens_plugin import HookedCLIP, NeuronMoments, second_order
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.collection.plan import CollectionMismatchError, Plan
from clip_lens_plugin.collection.running.neurons import BlockScalars, CollectedNeurons
from clip_lens_plugin.collection.store import CollectionDamagedError
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.higher_order.directions import NeuronDirections
from clip_lens_plugin.higher_order.neurons import moments_size
from clip_lens_plugin.higher_order.neurons.greatest_effects import MOST
from clip_lens_plugin.hints import for_command_line
from tests.collection.conftest import BrokenScenes, collect_rows, files_of, preprocessed
from tests.collection.stores import everything, same
from tests.conftest import random_images
from tests.support.families import FAMILIES

UNREADABLE = {5: OSError("cut short"), 9: OSError("cut short")}
KEPT = [position for position in range(21) if position not in UNREADABLE]
NEURONS = {2: [5, 1, 300], 4: None}


@pytest.fixture(scope="module")
def with_neurons(clip, tmp_path_factory) -> ContributionStore:
    """The same scenes as :func:`finished` has; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 8)
        folder = tmp_path_factory.mktemp("neurons")
        return collect_rows(clip, BrokenScenes(21, UNREADABLE), folder, dtype="float32", neurons=NEURONS)


def plain_scalars(clip: HookedCLIP, layer: int) -> torch.Tensor:
    """Scalars of all neurons of a layer [b, m, l, h], from a cache alone, in cosine units."""
    embedding, cache = clip.run_with_cache(preprocessed(clip, KEPT))
    last, post = cache["ln_final.hook_scale"][:, :1].double(), cache[f"blocks.{layer}.mlp.hook_post"].double()
    found = []
    for later in range(layer + 1, clip.cfg.n_layers):
        pattern = cache[f"blocks.{later}.attn.hook_pattern"][:, :, 0].double()
        scale = cache[f"blocks.{later}.ln1.hook_scale"][..., 0].double()
        found.append(torch.einsum("bhn,bn,bnm->bmh", pattern / last, 1 / scale, post))
    return torch.stack(found, 2) / embedding.double().norm(dim=1)[:, None, None, None]


@pytest.mark.parametrize(("layer", "neurons"), [(2, [1, 5, 300]), (4, list(range(512)))])
def test_sums_are_those_of_all_scalars(clip, with_neurons, layer, neurons):
    moments = with_neurons.neuron_moments(layer)
    assert (moments.n, moments.unit, moments.neurons.tolist()) == (19, "cosine", neurons)
    s = plain_scalars(clip, layer)[:, neurons].flatten(2)
    torch.testing.assert_close(moments.sum_s, s.sum(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(moments.sum_ss, torch.einsum("bmq,bmr->mqr", s, s), rtol=1e-4, atol=1e-7)
    D = NeuronDirections(Readout.of(clip), layer, torch.tensor(neurons)).of(slice(0, 3)).double()
    lengths = torch.einsum("bmq,mqe->bme", s[:, :3], D).norm(dim=-1)
    longest = lengths.sort(dim=0, descending=True)
    assert [[KEPT[row] for row in rows] for rows in longest.indices[:MOST].T] == moments.greatest.positions[:3].tolist()
    torch.testing.assert_close(moments.greatest.lengths[:3].T, longest.values[:MOST], rtol=1e-4, atol=0)
    assert with_neurons.neuron_moments(layer - clip.cfg.n_layers) is moments


def test_all_else_is_bit_identical_without_neurons(finished, with_neurons):
    found, expected = everything(with_neurons), everything(finished)
    assert found.pop("plan") != expected.pop("plan")
    assert same(found, expected)


def test_so_it_is_where_all_tokens_are_pooled(tmp_path):
    """The patterns are then computed beside the model's own attention."""
    siglip = HookedCLIP.from_open_clip(FAMILIES["SigLIP"]())
    images = random_images(siglip, 9)
    labelled = TensorDataset(images, torch.zeros(9).long())
    plain = collect_rows(siglip, labelled, tmp_path / "plain", dtype="float32")
    store = collect_rows(siglip, labelled, tmp_path / "neurons", dtype="float32", neurons={0: [3, 9]})
    assert torch.equal(store[:].embedding, plain[:].embedding)
    assert torch.equal(store.moments.sum_yy, plain.moments.sum_yy)
    expected = NeuronMoments.from_effects(second_order(siglip, images, 0, [3, 9]).normalized())
    moments = store.neuron_moments(0)
    torch.testing.assert_close(moments.sum_ss, expected.sum_ss, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(moments.greatest.lengths, expected.greatest.lengths, rtol=1e-4, atol=0)


def test_interrupted_and_resumed(clip, tmp_path, with_neurons):
    interrupted = BrokenScenes(21, {**UNREADABLE, 14: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, interrupted, tmp_path, dtype="float32", neurons=[4, 2])
    every = BrokenScenes(21, UNREADABLE)
    with pytest.raises(CollectionMismatchError, match="neurons was 2,4, now 4"):
        collect_rows(clip, every, tmp_path, dtype="float32", neurons=[4], resume=True)
    store = collect_rows(clip, every, tmp_path, dtype="float32", resume=True)
    moments, expected = store.neuron_moments(4).to_tensors(), with_neurons.neuron_moments(4).to_tensors()
    assert store.plan.neurons == "2,4"
    assert all(torch.equal(moments[name], value) for name, value in expected.items())
    assert not (tmp_path / "progress").exists()


def test_a_store_says_which_neurons_it_holds_and_how_to_have_others(finished, with_neurons):
    with pytest.raises(ValueError, match=r"of no layer, not of layer 4\. .* with neurons=\[4\]\."):
        finished.neuron_moments(4)
    with (
        for_command_line("--resume"),
        pytest.raises(ValueError, match=r"layers \[2, 4\], not of layer 3.* --neurons 3"),
    ):
        with_neurons.neuron_moments(3)
    with pytest.raises(IndexError, match="no layer 6"):
        with_neurons.neuron_moments(6)


def test_earlier_plans_are_of_no_neurons(finished, with_neurons):
    earlier = finished.plan.to_json()
    assert "neurons" not in earlier
    assert Plan.from_json(earlier).neurons is None
    assert Plan.from_json(with_neurons.plan.to_json()).neurons == "2:1,2:5,2:300,4"


def test_what_is_damaged_is_said(clip, tmp_path, with_neurons):
    for name, content in files_of(with_neurons.folder).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert "moments of layer 4's neurons" in with_neurons.verify().good
    path = tmp_path / "neurons_4.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    store = ContributionStore.open(tmp_path, clip)
    with pytest.raises(CollectionDamagedError, match=r"neurons_4\.safetensors"):
        store.neuron_moments(4)
    assert isinstance(store.neuron_moments(2), NeuronMoments)
    check = store.verify()
    assert len(check.faults) == 1
    assert "neurons_4.safetensors (moments of layer 4's neurons) is damaged" in check.faults[0]


def test_what_cannot_be_collected_is_refused_before_anything_is_read(clip, tmp_path, monkeypatch):
    out, unread = tmp_path / "out", BrokenScenes(9, {0: AssertionError("It was read.")})
    with pytest.raises(ValueError, match="Layer 5 is the last"):
        collect_rows(clip, unread, out, neurons=[5])
    with pytest.raises(IndexError, match="no neuron 512"):
        collect_rows(clip, unread, out, neurons={4: [512]})
    monkeypatch.setattr(moments_size, "MOST_BYTES", 10_000)
    with pytest.raises(ValueError, match=r"Moments of 512 neurons of layer 4 would take 0\.69 MB, .* 7 of layer 4"):
        collect_rows(clip, unread, out, neurons=[4])
    post_norm = HookedCLIP.from_open_clip(FAMILIES["EVA-02, post-norm"](), model_name="EVA with post-norm")
    with pytest.raises(ValueError, match="MLP of layer 0 of EVA with post-norm normalises what it writes"):
        collect_rows(post_norm, unread, out, neurons=[0])
    assert not out.exists()


def test_the_size_is_said_before_the_run(clip, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(9, {0: KeyboardInterrupt()}), tmp_path, neurons={4: range(100)}, progress=True)
    assert "100 neurons of layer 4: 0.14 MB of moments" in capsys.readouterr().err


def test_a_block_of_no_image_adds_nothing(clip, with_neurons):
    collected = CollectedNeurons.of(clip, with_neurons.plan)
    assert collected is not None
    assert collected.added({}, BlockScalars()) == {}
    assert CollectedNeurons.of(clip, replace(with_neurons.plan, neurons=None)) is None
