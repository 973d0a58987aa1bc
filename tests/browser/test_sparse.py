"""Words beside their images: on a phone too nothing is cut, in light and dark all can be read."""

from __future__ import annotations

import pytest

from clip_lens_plugin import HookedCLIP, TextPool, sparse_text
from clip_lens_plugin.scenes.dataset import ScenesDataset
from tests.browser.test_report import CONTRAST

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    images = model.decompose([picture for picture, _ in ScenesDataset(12, 21, "colour")])
    pool = TextPool([*TextPool.scenes().texts[:30], "shapes and nothing else but shapes in it"])
    return sparse_text(model, images, pool, 0.1).save(tmp_path_factory.mktemp("sparse") / "words.html")


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_it_fits_and_can_be_read(page_file, open_offline, width, scheme) -> None:
    page = open_offline(page_file, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 50
    assert min(contrasts)[0] > 4.5, min(contrasts)
    inside = "nodes => nodes.map((n) => n.getBoundingClientRect()).every((b) => b.left >= 0 && b.right <= innerWidth)"
    assert page.eval_on_selector_all(".cl-line span, .cl-card img, .cl-bar i", inside)
    image, words = (page.locator(f".cl-card >> nth=0 >> {each}").bounding_box() for each in ("img", "ol"))
    assert image["x"] + image["width"] <= words["x"]
