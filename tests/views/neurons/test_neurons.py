"""Cards of neurons: either side has its texts and its images, and what they are called is text."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from PIL import Image

from clip_lens_plugin.higher_order.frozen_run import FROZEN
from clip_lens_plugin.retrieval.strongest import DescribedNeuron, SidedImage, SidedText, StrongestNeurons
from clip_lens_plugin.views.neurons.neuron_pushes import neuron_pushes_view
from clip_lens_plugin.views.neurons.neurons import neuron_gallery_view
from clip_lens_plugin.views.words.neurons import MOST_IMAGES
from tests.views.conftest import EVIL, EVIL_TEXT

PICTURES = {position: Image.new("RGB", (32, 32), (10 * position, 0, 0)) for position in range(12)}


@pytest.fixture
def found() -> StrongestNeurons:
    images = tuple(SidedImage(i, EVIL if i == 0 else f"{i}.png", -0.5 if i == 1 else 0.25, 0.75) for i in range(12))
    texts = (SidedText(EVIL_TEXT, 0.5), SidedText("red", 0.25)), (SidedText("blue", -0.125),)
    neurons = (
        DescribedNeuron(4, 17, 0.0012, 0.84, *texts, images),
        DescribedNeuron(4, 3, 0.0, math.nan, (), (), images[2:4]),
    )
    return StrongestNeurons(neurons, 4, 1234, 512, 3)


def test_either_side_has_its_texts_and_images(found):
    body = neuron_gallery_view(found, PICTURES).body
    assert FROZEN in body.replace("Second", "second")
    assert re.findall(r"<h4>(.*?)</h4>", body) == ["Layer 4, neuron 17", "Layer 4, neuron 3"]
    assert re.findall(r"<span>(84 % along one direction|the same for all images)</span>", body) != []
    positive, negative, still = body.split('class="cl-neuron-side"')[1:]
    assert "red" in positive
    assert "+0.250" in positive
    assert re.findall(r"cl-g\w+-(\d+)", positive) == ["0", "2", "3", "4", "5", "6", "7"]
    assert "−0.125" in negative
    assert re.findall(r'cl-g\w+-(\d+)"[^>]*title="([^"]*)"', negative) == [
        ("1", "1.png: -0.5000 cosine along the direction")
    ]
    assert re.findall(r"cl-g\w+-(\d+)", still) == ["2", "3"]
    assert body.count("background-image") == MOST_IMAGES


def test_names_stand_where_there_are_no_pictures_and_are_text(found):
    view = neuron_gallery_view(found, None)
    assert "1.png" in view.body
    for body in (view.body, neuron_gallery_view(found, PICTURES).body):
        assert "<img src=x" not in body
        assert "<script>" not in body
    assert [axes for axes in view.figure().axes if axes.images] == []


def test_the_figure_has_a_panel_for_each_image(found):
    figure = neuron_gallery_view(found, PICTURES).figure()
    assert len([axes for axes in figure.axes if axes.images]) == MOST_IMAGES + 2
    words = [text.get_text() for text in figure.texts]
    assert any(FROZEN in each for each in words)
    assert "Neuron 17: 1.2e-03 cosine, 84 % along one direction" in words
    assert "Neuron 3: 0.0e+00 cosine, the same for all images" in words


def test_a_missing_picture_is_an_error(found):
    with pytest.raises(KeyError):
        neuron_gallery_view(found, {0: PICTURES[0]})


def test_pushes_are_bars_to_either_side(found):
    cards = {EVIL_TEXT: [("N3", 0.002), (EVIL, -0.001)], "one": [("N3", 0.0)]}
    view = neuron_pushes_view("Neurons", "what they add.", cards)
    assert re.findall(r'class="(cl-\w+)" style="([^"]*)"', view.body) == [
        ("cl-adds", "left:50.00%;width:50.00%"),
        ("cl-takes", "left:25.00%;width:25.00%"),
        ("cl-adds", "left:50.00%;width:0.00%"),
    ]
    assert "+0.00200" in view.body
    assert "−0.00100" in view.body
    assert "The longest bar is 0.00200" in view.body
    assert "<img src=x" not in view.body
    assert len(view.figure().axes) == 2
    one = replace(found, neurons=found.neurons[:1], n_neurons=1)
    assert neuron_gallery_view(one, None).title == "Neuron 17 of layer 4"
