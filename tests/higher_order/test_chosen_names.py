"""Neurons as they are named on the command line and in a plan."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.higher_order.chosen_names import neurons_of_text, text_of_neurons
from clip_lens_plugin.higher_order.scalars import checked_neurons


@pytest.fixture(scope="module")
def clip() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("4,3", {4: None, 3: None}),
        ("4:7", {4: [7]}),
        ("4:5-7, 2:1 ,4:3,4:6-8", {4: [3, 5, 6, 7, 8], 2: [1]}),
        ("4:5-7,4", {4: None}),
        ("4,4:5-7", {4: None}),
    ],
)
def test_items_of_a_layer_are_united(text, named):
    assert neurons_of_text(text) == named


@pytest.mark.parametrize(
    "text", ["", "4,", "4:", "4:a", "-1", "4:1-2-3", "four", "4;5", "4:9999999", "4:0-99999999999"]
)
def test_something_else_is_refused(text):
    with pytest.raises(ValueError, match=r"given as layers, 4,5, or as a layer with neurons, 4:7 or 4:0-99"):
        neurons_of_text(text)


def test_ranges_run_forwards():
    with pytest.raises(ValueError, match=r"In '4:9-3' the last neuron comes before the first: 4:3-9\?"):
        neurons_of_text("4:9-3")


def test_the_same_neurons_have_the_same_name(clip):
    several = {4: [9, 7, 8, 7, 511, -512], -6: slice(None), 2: range(512)}
    named = text_of_neurons(clip, checked_neurons(clip, several))
    assert named == "0,2,4:0,4:7-9,4:511"
    again = checked_neurons(clip, neurons_of_text(named))
    assert text_of_neurons(clip, again) == named
    assert torch.equal(again[4], torch.tensor([0, 7, 8, 9, 511]))
