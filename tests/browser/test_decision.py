"""A decision opens offline, without scripts too; on a phone nothing is cut, and the keyboard reaches the patches."""

from __future__ import annotations

import pytest

from clip_lens_plugin import HookedCLIP, TextPool, explain
from clip_lens_plugin.scenes.dataset import ScenesDataset
from tests.browser.test_report import CONTRAST

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    pictures = [picture for picture, _ in ScenesDataset(12, 21, "colour")]
    asked = ("one large purple checkered shape on a black ground", "yellow shape")
    texts = TextPool.from_strings(["purple shape", "yellow shape", "a circle"])
    wide = pictures[0].resize((150, 90))
    found = explain(model, wide, *asked, means=model.decompose(pictures), texts=texts, random_sets=5)
    return found.save(tmp_path_factory.mktemp("decision") / "why.html")


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (400, "dark")])
def test_it_fits_and_can_be_read(page_file, open_offline, width, scheme) -> None:
    page = open_offline(page_file, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 50
    assert min(contrasts)[0] > 4.5, min(contrasts)
    inside = "nodes => nodes.map((n) => n.getBoundingClientRect()).every((b) => b.left >= 0 && b.right <= innerWidth)"
    assert page.eval_on_selector_all(".cl-dot, .cl-spot, .cl-line span, .cl-ends span", inside)
    photo, crop = (page.locator(each).bounding_box() for each in (".cl-photo", ".cl-crop"))
    assert photo["width"] / photo["height"] == pytest.approx(150 / 90, rel=0.02)
    assert crop["width"] == pytest.approx(crop["height"], rel=0.02)


def test_the_keyboard_reaches_patches_and_the_map(page_file, open_offline) -> None:
    page = open_offline(page_file, 1200)
    outline = "node => getComputedStyle(node).outlineWidth"
    first = page.locator(".cl-spot-1")
    assert first.evaluate(outline) != "5px"
    page.locator(".cl-patch-1").focus()
    assert first.evaluate(outline) == "5px"
    switch = page.get_by_role("checkbox", name="map")
    assert page.locator(".cl-map").is_visible()
    switch.focus()
    page.keyboard.press("Space")
    assert not page.locator(".cl-map").is_visible()


def test_it_needs_no_script(page_file, browser) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(page_file.resolve().as_uri())
    assert page.locator(".cl-map").bounding_box()["width"] > 100
    assert page.locator(".cl-trial").count() >= 1
    context.close()
