"""The explorer of patch-text maps shows the model's own numbers, whatever is pointed at, by mouse and by keyboard."""

from __future__ import annotations

import re

import pytest
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.maps.patch_text import HeadTextScores, head_text_scores
from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.views.drawing.colours import OPACITY
from clip_lens_plugin.views.drawing.view import page
from clip_lens_plugin.views.maps.patch_text import head_text_view

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


def numbers(text: str) -> list[float]:
    return [float(each.replace("−", "-")) for each in re.findall(r"[+−]\d\.\d{4}", text)]


def limits_shown(view) -> list[float]:
    """The numbers of the line that tells what is shown."""
    return numbers(view.inner_text(".cl-readout"))


def parts(view) -> dict[str, float]:
    """The table of what adds up to the cosine."""
    rows = [row.inner_text().split("\t") for row in view.locator(".cl-parts tr").all()]
    return {name.strip(): numbers(value)[0] for name, value in rows}


def test_the_cosine_stands_first_and_its_parts_add_up(view, scene):
    scores = scene[0]
    found = parts(view)
    expected = scores.by_token[..., 0].double()
    names = ["of which by all heads, patches", "by all heads, class token", "by MLPs and constants"]
    assert list(found) == ["cosine", *names]
    assert found["cosine"] == pytest.approx(scores.cosine[0].item(), abs=6e-5)
    assert found[names[0]] == pytest.approx(expected[:, :, 1:].sum().item(), abs=6e-5)
    assert found[names[1]] == pytest.approx(expected[:, :, 0].sum().item(), abs=6e-5)
    assert sum(found[name] for name in names) == pytest.approx(found["cosine"], abs=2.1e-4)
    for t, button in enumerate(view.locator(".cl-text").all()):
        assert numbers(button.locator("b").inner_text()) == pytest.approx([scores.cosine[t].item()], abs=6e-5)
        assert button.locator(".cl-of").inner_text() == "of which by all heads"
        added = numbers(button.locator(".cl-added").inner_text())
        assert added == pytest.approx([scores.by_token[..., t].double().sum().item()], abs=6e-5)
    assert float(view.locator(".cl-text b").first.evaluate("(node) => getComputedStyle(node).fontWeight")) >= 600


def test_the_least_and_the_greatest_patch_are_shown_and_the_scale_has_numbers(view, scene):
    values = scene[0].by_token[:, :, 1:, 0].double().sum((0, 1))
    assert limits_shown(view) == pytest.approx([values.min().item(), values.max().item()], abs=6e-5)
    map_ticks, head_ticks = (
        [float(each.replace("−", "-")) for each in scale.inner_text().split("\n")]
        for scale in view.locator(".cl-ticks").all()
    )
    greatest = max(values.abs().max().item(), abs(scene[0].by_token[:, :, 0, 0].double().sum().item()) / 49)
    assert map_ticks == pytest.approx([-greatest, 0, greatest], rel=0.06)
    of_heads = scene[0].scores[..., 0].abs().max().item()
    assert head_ticks == pytest.approx([-of_heads, 0, of_heads], rel=0.06)


def test_layer_0_stands_at_the_top_and_columns_are_numbered(view):
    assert view.locator(".cl-layer").all_inner_texts() == [str(layer) for layer in range(6)]
    tops = [box.bounding_box()["y"] for box in view.locator(".cl-layer").all()]
    assert tops == sorted(tops)
    columns = view.locator(".cl-column").all()
    assert [column.inner_text() for column in columns] == [str(head) for head in range(len(columns))]
    for column, cell in zip(columns, view.locator(".cl-cell").all(), strict=False):
        box, over = column.bounding_box(), cell.bounding_box()
        assert abs(box["x"] + box["width"] / 2 - over["x"] - over["width"] / 2) < 1


def test_labels_show_as_text(view):
    assert view.locator(".cl-text .cl-name").all_inner_texts() == TEXTS
    assert view.locator("img[src='x']").count() == 0


def test_a_head_and_a_text_that_are_clicked_stay(view, scene):
    view.get_by_role("gridcell", name="layer 4, head 6").click()
    view.get_by_role("radio", name="blue square").click()
    view.mouse.move(0, 0)
    head = scene[0].by_token[4, 6, :, 1].double()
    cosine, patches, class_token, others, rest = parts(view).values()
    assert [patches, class_token] == pytest.approx([head[1:].sum().item(), head[0].item()], abs=6e-5)
    assert patches + class_token + others + rest == pytest.approx(cosine, abs=2.6e-4)
    assert rest == pytest.approx((scene[0].cosine[1] - scene[0].by_token[..., 1].sum()).item(), abs=6e-5)
    view.get_by_role("gridcell", name="layer 0, head 1").click(modifiers=["Shift"])
    view.mouse.move(0, 0)
    both = scene[0].by_token[[4, 0], [6, 1], :, 1].double().sum()
    assert sum(list(parts(view).values())[1:3]) == pytest.approx(both.item(), abs=1.1e-4)
    assert "2 heads" in view.inner_text(".cl-readout")


def test_a_patch_under_the_pointer_is_shown_and_heads_follow(view, scene):
    box = view.locator(".cl-photo").bounding_box()
    row, column = 5, 4
    view.mouse.move(box["x"] + (column + 0.5) * box["width"] / 7, box["y"] + (row + 0.5) * box["height"] / 7)
    token = scene[0].by_token[:, :, 1 + row * 7 + column, 0].double()
    assert f"row {row}, column {column}" in view.inner_text(".cl-readout")
    assert limits_shown(view) == pytest.approx([token.sum().item()], abs=6e-5)
    label = view.locator(".cl-cell").first.get_attribute("aria-label")
    assert float(label.split(": ")[1].replace("−", "-")) == pytest.approx(token[0, 0].item(), abs=6e-5)


def test_everything_is_reached_by_keyboard(view, scene):
    view.locator(".cl-photo").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
        view.keyboard.press(key)
    view.keyboard.press("Tab")  # smooth
    token = scene[0].by_token[:, :, 1 + 1 * 7 + 1, 0].double()
    assert "row 1, column 1" in view.inner_text(".cl-readout")
    assert limits_shown(view) == pytest.approx([token.sum().item()], abs=6e-5)
    view.locator(".cl-photo").focus()
    view.keyboard.press("Escape")
    view.get_by_role("radio", name="cyan circle").focus()
    view.keyboard.press("ArrowDown")
    assert "blue square" in view.inner_text(".cl-readout")
    view.locator(".cl-layer[tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
        view.keyboard.press(key)
    assert "Layer 1, head 1" in view.inner_text(".cl-readout")
    head = scene[0].by_token[1, 1, :, 1].double().sum().item()
    assert sum(list(parts(view).values())[1:3]) == pytest.approx(head, abs=1.1e-4)


def test_contrast_subtracts_the_mean_of_the_other_texts(view, scene):
    view.get_by_label("show").select_option(label="minus the mean of the other texts")
    by_text = scene[0].by_token.double().sum((0, 1, 2))
    cosine, patches, class_token, _ = parts(view).values()
    assert patches + class_token == pytest.approx((by_text[0] - by_text[1:].mean()).item(), abs=1.1e-4)
    whole = scene[0].cosine.double()
    assert cosine == pytest.approx((whole[0] - whole[1:].mean()).item(), abs=6e-5)


def test_a_text_is_taken_away_from_another(view, scene):
    view.get_by_label("show").select_option(label="minus “blue square”")
    expected = scene[0].map().contrast("cyan circle", "blue square")
    assert limits_shown(view) == pytest.approx([expected.values.min().item(), expected.values.max().item()], abs=6e-5)
    cosine, patches, class_token, _ = parts(view).values()
    assert patches + class_token == pytest.approx(expected.scores[0, 0].item(), abs=1.1e-4)
    assert cosine == pytest.approx((scene[0].cosine[0] - scene[0].cosine[1]).item(), abs=6e-5)
    view.get_by_role("radio", name="blue square").click()  # Nothing is left of a text without itself.
    assert view.locator(".cl-contrast select").input_value() == "0"


@pytest.mark.parametrize("heads", [None, [(4, 6)]])
def test_the_text_that_leads_is_shown_at_each_patch(view, scene, heads):
    view.get_by_label("show").select_option(label="which text leads at each patch")
    if heads:
        view.get_by_role("gridcell", name="layer 4, head 6").click()
        view.mouse.move(0, 0)
    found = scene[0].map(heads).leading()
    counts = found.patches(0)
    expected = [f"{text}: {counts[t]}" for t, text in enumerate(TEXTS) if counts[t]] + [f"none: {counts[-1]}"]
    assert view.locator(".cl-topics li").all_inner_texts() == expected
    pixels = view.evaluate("[...document.querySelector('.cl-map').getContext('2d').getImageData(0, 0, 7, 7).data]")
    alpha = torch.tensor(pixels).reshape(7, 7, 4)[..., 3]
    assert torch.equal(alpha > 0, found.leads[0] >= 0)
    row, column = (found.leads[0] >= 0).nonzero()[0].tolist()
    box = view.locator(".cl-photo").bounding_box()
    view.mouse.move(box["x"] + (column + 0.5) * box["width"] / 7, box["y"] + (row + 0.5) * box["height"] / 7)
    assert TEXTS[found.leads[0, row, column]] in view.inner_text(".cl-readout")
    assert limits_shown(view) == pytest.approx([found.above[0, row, column].item()], abs=6e-5)


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
    added = scene[0].by_token[..., 0].sum((0, 1)).abs()
    greatest = max(added[1:].max(), added[0] / 49)
    torch.testing.assert_close(alpha, OPACITY * added[1:] / greatest, atol=3e-3, rtol=0)
