"""The size of neurons' moments is known beforehand, and what is too large is refused with what would fit."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, NeuronMoments
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.higher_order.directions import NeuronDirections
from clip_lens_plugin.higher_order.neurons import moments_size
from clip_lens_plugin.higher_order.neurons.moments_size import (
    counted,
    in_gigabytes,
    moments_bytes,
    refuse_large_moments,
)
from clip_lens_plugin.higher_order.scalars import checked_neurons
from clip_lens_plugin.hints import for_command_line


@pytest.fixture(scope="module")
def clip() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu")


def written(clip: HookedCLIP, layer: int, neurons: list[int]) -> int:
    """Bytes of the sums and images that are kept, taken from tensors of that size."""
    directions = NeuronDirections(Readout.of(clip), layer, torch.tensor(neurons))
    moments = NeuronMoments.none(directions)
    q = directions.n_readers
    scalars = torch.rand(16, len(neurons), q, generator=torch.Generator().manual_seed(0))
    tensors = moments.absorb(scalars, torch.arange(16), directions).to_tensors()
    return sum(tensors[name].nbytes for name in tensors.keys() - {"n", "layer", "noise", "unit"})


def test_bytes_are_those_of_the_tensors(clip):
    assert moments_bytes(clip, {0: [1, 5]}) == written(clip, 0, [1, 5])
    both = {0: [1, 5], 1: range(3)}
    assert moments_bytes(clip, both) == written(clip, 0, [1, 5]) + written(clip, 1, [0, 1, 2])


def test_too_large_moments_are_refused_with_what_fits(clip, monkeypatch):
    each = moments_bytes(clip, {0: [3]})
    monkeypatch.setattr(moments_size, "MOST_BYTES", 10 * each + each // 2)
    refuse_large_moments(clip, checked_neurons(clip, {0: range(10)}))
    eleven = checked_neurons(clip, {0: range(11)})
    with pytest.raises(
        ValueError, match=r"Moments of 11 neurons of layer 0 .*10 of layer 0\. .*neurons=\{0: range\(10\)\}"
    ):
        refuse_large_moments(clip, eleven)
    with for_command_line("--resume"), pytest.raises(ValueError, match=r"such as --neurons 0:0-9\."):
        refuse_large_moments(clip, eleven)
    later = moments_bytes(clip, {1: [3]})
    fits = min(clip.cfg.d_mlp, (10 * each + each // 2) // later)
    with pytest.raises(ValueError, match=f"10 of layer 0, {fits} of layer 1"):
        refuse_large_moments(clip, checked_neurons(clip, [0, 1]))


def test_words(clip):
    assert counted(checked_neurons(clip, {1: [4], 0: [1, 2]})) == "3 neurons of layers 0, 1"
    assert counted(checked_neurons(clip, {1: [4]})) == "1 neuron of layer 1"
    assert [in_gigabytes(n) for n in (10**9, 408_000_000, 3_500_000)] == ["1 GB", "0.41 GB", "3.5 MB"]
