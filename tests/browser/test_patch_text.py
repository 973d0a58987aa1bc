"""The explorer of patch-text maps shows the model's own numbers, whatever is pointed at, by mouse and by keyboard."""

from __future__ import annotations

import re

import pytest
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.maps.patch_text import HeadTextScores, head_text_scores
from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.views.drawing.view import page
from clip_lens_plugin.views.patch_text import head_text_view

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)>"
TEXTS = ["cyan circle", "blue square", EVIL]


@pytest.fixture(scope="module")
def scene() -> tuple[HeadTextScores, object]:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    picture = ScenesDataset(3, 3)[2]
    return head_text_scores(model, model.prepare([picture])[0], TEXTS), picture


@pytest.fixture
def view(scene, tmp_path, open_offline):
    head_text_view(*scene, name=EVIL).save(tmp_path / "view.html")
    return open_offline(tmp_path / "view.html")


def told(view) -> list[float]:
    """The numbers of the line that tells what is shown."""
    return [float(each.replace("−", "-")) for each in re.findall(r"[+−]\d\.\d{4}", view.inner_text(".cl-readout"))]


def test_at_first_all_heads_are_shown_and_add_up(view, scene):
    scores = scene[0]
    patches, class_token, whole, cosine = told(view)
    expected = scores.by_token[..., 0].double()
    assert patches == pytest.approx(expected[:, :, 1:].sum().item(), abs=6e-5)
    assert class_token == pytest.approx(expected[:, :, 0].sum().item(), abs=6e-5)
    assert whole == pytest.approx(patches + class_token, abs=1.1e-4)
    assert cosine == pytest.approx(scores.cosine[0].item(), abs=6e-5)


def test_labels_show_as_text(view):
    assert view.locator(".cl-text .cl-name").all_inner_texts() == TEXTS
    assert view.locator("img[src='x']").count() == 0


def test_a_head_and_a_text_that_are_clicked_stay(view, scene):
    view.get_by_role("gridcell", name="layer 4, head 6").click()
    view.get_by_role("radio", name="blue square").click()
    view.mouse.move(0, 0)
    head = scene[0].by_token[4, 6, :, 1].double()
    assert told(view)[:3] == pytest.approx([head[1:].sum().item(), head[0].item(), head.sum().item()], abs=1.1e-4)
    view.get_by_role("gridcell", name="layer 0, head 1").click(modifiers=["Shift"])
    view.mouse.move(0, 0)
    both = scene[0].by_token[[4, 0], [6, 1], :, 1].double().sum()
    assert told(view)[2] == pytest.approx(both.item(), abs=1.1e-4)
    assert "2 heads" in view.inner_text(".cl-readout")


def test_a_patch_under_the_pointer_is_told_and_heads_follow(view, scene):
    box = view.locator(".cl-photo").bounding_box()
    row, column = 5, 4
    view.mouse.move(box["x"] + (column + 0.5) * box["width"] / 7, box["y"] + (row + 0.5) * box["height"] / 7)
    token = scene[0].by_token[:, :, 1 + row * 7 + column, 0].double()
    assert f"row {row}, column {column}" in view.inner_text(".cl-readout")
    assert told(view) == pytest.approx([token.sum().item()], abs=6e-5)
    label = view.locator(".cl-cell").first.get_attribute("aria-label")  # the last layer stands on top
    assert float(label.split(": ")[1].replace("−", "-")) == pytest.approx(token[-1, 0].item(), abs=6e-5)


def test_everything_is_reached_by_keyboard(view, scene):
    view.locator(".cl-photo").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
        view.keyboard.press(key)
    view.keyboard.press("Tab")  # smooth
    token = scene[0].by_token[:, :, 1 + 1 * 7 + 1, 0].double()
    assert "row 1, column 1" in view.inner_text(".cl-readout")
    assert told(view) == pytest.approx([token.sum().item()], abs=6e-5)
    view.locator(".cl-photo").focus()
    view.keyboard.press("Escape")
    view.get_by_role("radio", name="cyan circle").focus()
    view.keyboard.press("ArrowDown")
    assert "blue square" in view.inner_text(".cl-readout")
    view.locator(".cl-layer[tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
        view.keyboard.press(key)
    assert "Layer 4, head 1" in view.inner_text(".cl-readout")
    assert told(view)[2] == pytest.approx(scene[0].by_token[4, 1, :, 1].double().sum().item(), abs=1.1e-4)


def test_contrast_subtracts_the_mean_of_the_other_texts(view, scene):
    view.get_by_label("minus the mean of the other texts").check()
    by_text = scene[0].by_token.double().sum((0, 1, 2))
    assert told(view)[2] == pytest.approx((by_text[0] - by_text[1:].mean()).item(), abs=1.1e-4)


@pytest.mark.parametrize(("width", "scheme"), [(1120, "light"), (390, "dark")])
def test_two_on_one_page_are_apart_and_fit(scene, tmp_path, open_offline, width, scheme):
    one = head_text_view(*scene, name="one")
    (tmp_path / "page.html").write_text(page("two", [one, one]))
    opened = open_offline(tmp_path / "page.html", width, scheme)
    opened.get_by_role("gridcell", name="layer 4, head 6").nth(1).click()
    opened.mouse.move(0, 0)
    first, second = opened.locator(".cl-readout").all_inner_texts()
    assert first.startswith("All heads")
    assert second.startswith("Layer 4, head 6")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_the_colour_of_a_patch_is_that_of_its_value(view, scene):
    pixels = view.evaluate("[...document.querySelector('.cl-map').getContext('2d').getImageData(0, 0, 7, 7).data]")
    alpha = torch.tensor(pixels).unflatten(0, (49, 4))[:, 3].float() / 255
    values = scene[0].by_token[:, :, 1:, 0].sum((0, 1)).abs()
    torch.testing.assert_close(alpha, 0.12 + 0.75 * values / values.max(), atol=3e-3, rtol=0)
