"""Saliency maps are drawn from clear at their least to full colour at their greatest, and what is given is text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clip_lens_plugin import SaliencyMap
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.maps.crop_geometry import Geometry
from clip_lens_plugin.maps.pictured import Pictured
from clip_lens_plugin.views import saliency_view
from tests.views.conftest import EVIL, EVIL_TEXT

VALUES = torch.tensor([[[0.25, 0.5], [0.75, 1.25]], [[-3.0, -2.0], [-1.0, -1.5]]])
PICTURED = Pictured(Photograph(Image.new("RGB", (40, 40), "grey"), EVIL), Geometry((), (40, 40)))


def result(texts: tuple[str, ...] = ("a dog", EVIL_TEXT)) -> SaliencyMap:
    return SaliencyMap(VALUES[: max(1, len(texts))], texts, "legrad", "LeGrad", (40, 40), (EVIL_TEXT,), PICTURED)


def test_each_map_goes_from_clear_to_full_on_its_own_scale() -> None:
    figure = saliency_view(result()).figure()
    panels = [axes.images[-1].get_array() for axes in figure.axes if len(axes.images) == 2]
    assert len(panels) == 2
    for painted in panels:
        opacity = np.asarray(painted)[..., 3].ravel()
        assert opacity.min() == 0
        assert opacity.argmax() in (3, 2)
        assert opacity.max() > 0.5
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["+0.25 to +1.2", "−3 to −1"]


def test_a_flat_map_is_clear() -> None:
    flat = SaliencyMap(torch.ones(1, 2, 2), (), "rollout", "Rollout", (40, 40), (), PICTURED)
    figure = saliency_view(flat).figure()
    (painted,) = [axes.images[-1].get_array() for axes in figure.axes if len(axes.images) == 2]
    assert np.asarray(painted)[..., 3].max() == 0
    assert "whatever the text" in [axes.get_title() for axes in figure.axes]


def test_what_was_given_is_text() -> None:
    html = saliency_view(result()).html()
    assert "<img src=x" not in html
    assert "<script>x" not in html
    assert "&lt;/style&gt;" in html
    assert "less the mean of" in html


def test_a_picture_that_cannot_be_it_is_refused() -> None:
    unknown = SaliencyMap(VALUES, ("a", "b"), "legrad", "LeGrad", (40, 40))
    with pytest.raises(ValueError, match="do not know the pictures"):
        saliency_view(unknown)
    with pytest.raises(ValueError, match="cannot be what the model sees"):
        saliency_view(unknown, Image.new("RGB", (90, 20)))
    assert saliency_view(unknown, Image.new("RGB", (20, 20))).title == "LeGrad: image 0"
