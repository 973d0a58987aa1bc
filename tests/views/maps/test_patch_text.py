"""Maps lie where the patches lie on the photograph, on one signed scale, with the numbers beside them."""

from __future__ import annotations

import base64
import dataclasses
import json
import re

import matplotlib.colors
import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image

from clip_lens_plugin.maps.crop_geometry import Geometry, Placement
from clip_lens_plugin.maps.patch_text import PatchTextMap
from clip_lens_plugin.maps.pictured import Pictured
from clip_lens_plugin.views.drawing.colours import OPACITY
from clip_lens_plugin.views.figures.maps.maps import maps_figure
from clip_lens_plugin.views.maps.patch_text import head_text_view, patch_text_view
from tests.views.conftest import EVIL, EVIL_TEXT

PREPROCESS = image_transform((32, 64), is_train=False)
PHOTO = Image.new("RGB", (300, 100), "teal")


@pytest.fixture
def placement() -> Placement:
    return Placement.of(PREPROCESS, PHOTO.size, (64, 32))


@pytest.fixture
def maps() -> PatchTextMap:
    return PatchTextMap(
        torch.tensor([[[[1.0, -2.0], [0.0, 0.5]]] * 2]), torch.tensor([[0.25, -1.0]]), ("a $x$", EVIL_TEXT)
    )


def test_the_page_holds_the_exact_scores_and_the_crop(scores, placement):
    view = head_text_view(scores, PHOTO, placement, name=EVIL, interpolation="bilinear")
    (found,) = re.findall(r'<script type="application/json">(.*?)</script>', view.body)
    data = json.loads(found)
    read = np.frombuffer(base64.b64decode(data["by_token"]["float32"]), "<f4").reshape(2, 3, 9, 2)
    np.testing.assert_array_equal(read, scores.by_token.numpy())
    assert (data["texts"], data["name"], data["grid"]) == (list(scores.texts), EVIL, [2, 4])
    assert (data["unseen"], data["smooth"]) == (True, True)
    boxes = placement.patch_boxes((2, 4))
    left, top, width, height = data["crop"]
    assert (left * 300, top * 100) == pytest.approx(tuple(boxes[0, 0, :2]))
    assert ((left + width) * 300, (top + height) * 100) == pytest.approx(tuple(boxes[-1, -1, 2:]))
    seen = PHOTO.resize((64, 32))
    whole = json.loads(re.findall(r"json\">(.*?)</script>", head_text_view(scores, seen).body)[0])
    assert (whole["crop"], whole["unseen"]) == ([0, 0, 1, 1], False)


def test_a_figure_has_a_map_a_text_beside_the_photograph(maps, placement):
    figure = maps_figure(maps, [PHOTO], [placement], marks=["most similar", "least similar"], names=["$5"])
    photo, first, second, bar = figure.axes
    assert photo.get_title() == "$5"
    assert first.get_title() == "a $x$"
    assert not first.title.get_parse_math()  # A dollar is a dollar.
    assert below(first) == ["added by the heads −0.2500", "most similar"]
    assert below(second) == ["added by the heads −1.5000", "least similar"]
    for axes, colour in ((first, "#1a9850"), (second, "#d73027")):
        edges = {spine.get_edgecolor() for spine in axes.spines.values()}
        assert edges == {matplotlib.colors.to_rgba(colour)}
    painted = first.images[1]
    boxes = placement.patch_boxes((2, 2))
    expected = (boxes[0, 0, 0] - 0.5, boxes[-1, -1, 2] - 0.5, boxes[-1, -1, 3] - 0.5, boxes[0, 0, 1] - 0.5)
    assert painted.get_extent() == pytest.approx(expected)
    colours = painted.get_array()
    assert colours[0, 1, 2] > colours[0, 1, 0]  # the negative one is purple
    assert colours[0, 0, 0] > colours[0, 0, 2]  # the positive one is orange
    assert colours[0, 1, 3] > colours[0, 0, 3] > colours[1, 0, 3]
    assert colours[1, 0, 3] == 0  # What adds nothing hides nothing,
    assert colours[0, 1, 3] == pytest.approx(OPACITY)  # and what adds most lets the photograph through.
    assert bar.get_xlim() == pytest.approx((-2, 2))
    assert [tick.get_text() for tick in bar.get_xticklabels()] == ["−2", "0", "+2"]
    assert bar.get_xlabel() == "added by a patch (cosine), one scale for all maps"


def test_the_cosine_stands_over_what_the_heads_add(scores):
    first, second = head_text_view(scores, PHOTO.resize((64, 32))).figure().axes[1:3]
    for t, axes in enumerate((first, second)):
        (bold,) = [text for text in axes.texts if text.get_weight() == "bold"]
        assert bold.get_text() == ("cosine +0.2500", "cosine −0.5000")[t] == below(axes)[0]
        added = scores.by_token[..., t].sum().item()
        assert " ".join(below(axes)[1:]) == f"of which by all heads {added:+.4f}".replace("-", "−")


def test_without_scripts_the_cosine_stands_first_too(scores):
    body = head_text_view(scores, PHOTO.resize((64, 32)), light=True).body
    sums = re.findall(r"<b>cosine ([+−][\d.]+)</b><br>of which by all heads ([+−][\d.]+)<", body)
    expected = [(cosine, scores.by_token[..., t].sum().item()) for t, cosine in enumerate([0.25, -0.5])]
    assert sums == [tuple(f"{each:+.4f}".replace("-", "−") for each in pair) for pair in expected]


def test_a_map_of_chosen_heads_names_them_and_its_numbers_add_up(scores):
    view = patch_text_view(scores.map([(1, 2)]), [PHOTO.resize((64, 32))])
    assert view.title == "Patch-text maps, layer 1, head 2"
    first = view.figure().axes[1]
    assert below(first)[0] == "cosine +0.2500"
    assert "of which by layer 1, head 2" in " ".join(below(first))
    cells = re.findall(r"<td[^>]*>([+-][\d.]+)</td>", view.body)[:4]
    cosine, added, patches, class_token = map(float, cells)
    assert cosine == 0.25
    assert added == pytest.approx(patches + class_token, abs=1.1e-4)
    assert '<th scope="col">of which by layer 1, head 2</th>' in view.body


def test_maps_of_several_images_and_texts_are_on_one_scale():
    values = torch.zeros(3, 6, 2, 2)
    values[:, :, 0, 0] = torch.tensor([4.0, 1.0, 0.5])[:, None]
    maps = PatchTextMap(values, torch.zeros(3, 6), tuple("abcdef"))
    pictures = [PHOTO, PHOTO.rotate(90, expand=True), PHOTO.resize((100, 100))]
    figure = maps_figure(maps, pictures, [None] * 3)
    shown = [axes for axes in figure.axes if len(axes.images) == 2]
    assert len(shown) == 18
    opacity = [float(axes.images[1].get_array()[0, 0, 3]) for axes in shown]
    expected = OPACITY * np.repeat([1, 0.25, 0.125], 6)
    np.testing.assert_allclose(opacity, expected, atol=2e-3)
    heights = [axes.get_position().height for axes in shown[6:]]
    np.testing.assert_allclose(heights, heights[0])  # All but the panorama's, which would be wider than its room.


def below(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_only_what_the_crop_hides_is_shaded(maps, placement):
    assert len(maps_figure(maps, [PHOTO], [placement]).axes[0].patches) == 2
    assert len(maps_figure(maps, [PHOTO], [None]).axes[0].patches) == 0


def test_numbers_stand_below_and_labels_are_text(maps):
    view = patch_text_view(maps, [PHOTO.resize((64, 64))], names=[EVIL])
    for number in ("-0.5000", "+0.2500", "-0.2500", "-1.5000"):
        assert number in view.body
    assert "<img src=x" not in view.body
    assert "<script>x" not in view.body


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pictures": []}, "1 images need as many pictures, got 0"),
        ({"placements": [None, None]}, "as many placements, got 2"),
        ({"marks": ["most similar"]}, "2 texts, got 1 marks"),
        ({"marks": ["best", ""]}, r"A mark must be .*'best'"),
        ({"names": ["a", "b"]}, "got 2 names"),
        ({"pictures": [PHOTO.resize((30, 10))], "placements": "placed"}, "300 x 100 pixels, the picture has 30 x 10"),
    ],
)
def test_what_does_not_fit_is_refused(maps, placement, changes, message):
    given = {"pictures": [PHOTO], "placements": [None], **changes}
    if given["placements"] == "placed":
        given["placements"] = [placement]
    figure = {name: given.pop(name) for name in ("marks", "names", "interpolation") if name in given}
    with pytest.raises(ValueError, match=message) as error:
        maps_figure(maps, given["pictures"], given["placements"], **figure)
    assert "Traceback" not in str(error.value)


def test_a_photograph_is_placed_as_the_preprocessing_puts_it(maps, placement):
    """Or refused: a map of the crop is never stretched over the whole photograph."""
    known = dataclasses.replace(maps, pictured=(Pictured(None, Geometry.of(PREPROCESS, (64, 32))),))
    boxes = placement.patch_boxes((2, 2))
    expected = (boxes[0, 0, 0] - 0.5, boxes[-1, -1, 2] - 0.5, boxes[-1, -1, 3] - 0.5, boxes[0, 0, 1] - 0.5)
    figure = patch_text_view(known, [PHOTO]).figure()
    assert figure.axes[1].images[1].get_extent() == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"300 x 100 pixels, the map 2 x 2 patches.*cannot be what the model sees"):
        patch_text_view(maps, [PHOTO])
    with pytest.raises(ValueError, match="do not know the pictures"):
        patch_text_view(maps)
    with pytest.raises(ValueError, match="give the pictures as well"):
        patch_text_view(maps, placements=[placement])
