"""The explorer of words and patches: a word shows its patches, a patch its words, by mouse and by keyboard."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from clip_lens_plugin import HookedCLIP, Interaction, interaction
from clip_lens_plugin.scenes import draw, sample_scenes
from clip_lens_plugin.views.drawing.colours import OPACITY

pytestmark = pytest.mark.browser

EVIL = "<img src=x>"
TEXTS = ["two red circles on a white background", EVIL]


@pytest.fixture(scope="module")
def found() -> Interaction:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    return interaction(model, [draw(scene).resize((84, 56)) for scene in sample_scenes(2, seed=1)], TEXTS)


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def alpha(place) -> torch.Tensor:
    """How opaque each patch of the map is."""
    png = place.locator("canvas.cl-map").evaluate("(node) => node.toDataURL().split(',')[1]")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA"))
    return torch.from_numpy(pixels[..., 3].copy()).flatten().float() / 255


def expected(by_token: torch.Tensor) -> torch.Tensor:
    """The same of what the class token and patches add."""
    size = by_token.abs()
    return OPACITY * size[1:] / max(size[1:].max(), size[0] / 49)


def numbers(place) -> list[float]:
    return [number(each) for each in place.locator(".cl-word-number").all_inner_texts()]


@pytest.mark.parametrize(("width", "scheme"), [(1120, "light"), (400, "dark")])
def test_words_and_patches_follow_each_other(found, tmp_path, open_offline, width, scheme):
    found.save(tmp_path / "page.html")
    view = open_offline(tmp_path / "page.html", width, scheme)
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert view.locator("img[src='x']").count() == 0
    place = view.locator(".cl-place").nth(1)
    values = found.words()[0][1]

    def sums() -> None:
        torch.testing.assert_close(alpha(place), expected(values.sum(1)), atol=4e-3, rtol=0)
        assert numbers(place) == pytest.approx(values[1:].sum(0).tolist(), abs=6e-5)
        assert f"add {float(values[1:].sum()):+.4f}".replace("-", "−") in place.locator(".cl-readout").inner_text()

    sums()
    words, readout = place.locator("button.cl-word"), place.locator(".cl-readout")
    assert words.locator("span:first-child").all_inner_texts()[1:4] == ["two", "red", "circles"]
    # By mouse.
    words.nth(3).hover()
    torch.testing.assert_close(alpha(place), expected(values[:, 3]), atol=4e-3, rtol=0)
    assert readout.inner_text().startswith("Patches and “circles” add ")
    view.mouse.move(0, 0)
    sums()
    patch = 1 + 3 * 7 + 2
    photo = place.locator(".cl-photo")
    photo.scroll_into_view_if_needed()
    crop = place.locator(".cl-crop").bounding_box()
    view.mouse.move(crop["x"] + 2.5 * crop["width"] / 7, crop["y"] + 3.5 * crop["height"] / 7)
    assert numbers(place) == pytest.approx(values[patch].tolist(), abs=6e-5)
    assert readout.inner_text().startswith("The patch in row 3, column 2 adds ")
    view.mouse.move(0, 0)
    sums()
    # By keyboard: a patch that is kept, and a word of it.
    photo.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Enter", "Tab"):
        view.keyboard.press(key)
    assert numbers(place) == pytest.approx(values[1 + 2 * 7].tolist(), abs=6e-5)
    for key in ("Tab", "Tab", "ArrowRight", "ArrowRight"):
        view.keyboard.press(key)
    assert view.evaluate("document.activeElement.getAttribute('aria-label')").startswith("“red” adds ")
    torch.testing.assert_close(alpha(place), expected(values[:, 2]), atol=4e-3, rtol=0)
    assert "The patch in row 2, column 0 and “red” add " in readout.inner_text()
    view.keyboard.press("Enter")
    assert words.nth(2).get_attribute("aria-pressed") == "true"
    view.keyboard.press("Escape")
    photo.focus()
    view.keyboard.press("Escape")
    sums()
    # Another text has its own words, and what adds up to its cosine.
    place.get_by_role("radio").nth(1).click()
    assert "img" in place.locator(".cl-spelt").inner_text()
    assert len(numbers(place)) == found.words()[1].shape[2]
    rows = [row.inner_text().split("\t") for row in place.locator(".cl-parts tr").all()]
    cosine, *parts = [number(value) for _, value in rows]
    assert cosine == pytest.approx(float(found.cosine[1, 1]), abs=6e-5)
    assert parts[0] == pytest.approx(float(found.words()[1][1, 1:].sum()), abs=6e-5)
    assert sum(parts) == pytest.approx(cosine, abs=2e-4)
