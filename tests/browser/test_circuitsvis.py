"""Several views live side by side on one page without a network, circuitsvis's from one copy of its bundle."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, Moments, TextPool, text_span, views
from clip_lens_plugin.images.preprocessed import shown_pictures
from clip_lens_plugin.maps.patch_text import head_text_scores
from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.views.drawing import scripts
from tests.browser.conftest import states, wait_until_drawn

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> str:
    """A page with one view of each kind that is drawn by a script."""
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    pictures = [ScenesDataset(24, 3)[i] for i in range(24)]
    images = model.prepare(pictures)
    _, cache = model.run_with_cache(images[:1])
    pool = TextPool.from_strings([EVIL, "a red shape", "a blue shape", "a star", "a white background"])
    moments = Moments.from_contributions(model.decompose(images).normalized())
    spans = text_span(model, moments, pool, 4, [(5, 0), (5, 1)])
    seen = shown_pictures(images[:1], model.preprocess)[0]
    rows = torch.stack([cache["pattern", l][0, :, 0] for l in range(6)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.views.maps.attention.QUICK_PATTERN_WEIGHTS", 2 * 50 * 50)
        slow = views.attention_view(model, cache, 4, seen)
    return views.page(
        "several",
        [
            views.text_span_view(spans),
            views.head_texts_view(spans[5, 0]),
            views.attention_view(model, cache, 5, seen, heads=[0, 1]),
            slow,
            views.class_attention_view(rows, seen, model.cfg.grid_size),
            views.head_text_view(head_text_scores(model, images[0], ["a star", EVIL]), pictures[0]),
        ],
    )


@pytest.fixture
def opened(several, tmp_path, open_offline):
    (tmp_path / "page.html").write_text(several)
    return open_offline(tmp_path / "page.html")


def plain(place) -> str:
    """Its text, with circuitsvis's hard spaces and our joiners as they are meant."""
    return place.inner_text().replace("\u00a0", " ").replace("\u2060", "")


def test_all_are_drawn_from_one_bundle(opened, several):
    assert several.count(f'id="{scripts.CIRCUITSVIS_ID}"') == 1
    drawn = ["circuitsvis drawn"] * 3
    assert states(opened) == [*drawn, "circuitsvis offered", "attention drawn", "patch-text drawn"]
    tables, texts, heads = (opened.locator(".cl-circuitsvis").nth(i) for i in range(3))
    assert "a white background" in plain(tables)
    assert "a star" in plain(texts)
    assert heads.locator("canvas").count() >= 1
    assert opened.locator("img[src='x']").count() == 0
    assert EVIL in plain(texts)


def test_what_is_slow_waits_for_its_button(opened):
    before = opened.locator(".cl-circuitsvis").count()
    assert opened.locator(".cl-static:visible").count() == 1
    opened.get_by_role("button", name="Draw the 8 patterns").click()
    wait_until_drawn(opened)
    assert opened.locator(".cl-circuitsvis").count() == before + 1
    assert opened.locator(".cl-static:visible").count() == 0


def test_layers_of_class_attention_are_chosen_by_keyboard(opened):
    tabs = opened.get_by_role("tab")
    tabs.and_(opened.locator("[aria-selected='true']")).focus()
    before = opened.locator("[data-kind='attention']").inner_text()
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("ArrowUp")
    chosen = opened.locator("[role='tab'][aria-selected='true']")
    assert chosen.count() == 1
    assert opened.locator("[data-kind='attention']").inner_text() != before or "4" in chosen.inner_text()
    assert states(opened)[-1] == "patch-text drawn"


def test_without_the_bundle_the_picture_stays_and_says_so(several, tmp_path, open_offline):
    (tmp_path / "without.html").write_text(several.replace(f'id="{scripts.CIRCUITSVIS_ID}"', 'id="elsewhere"'))
    page = open_offline(tmp_path / "without.html")
    assert states(page)[:3] == ["circuitsvis failed"] * 3
    assert states(page)[-1] == "patch-text drawn"
    assert page.locator(".cl-static:visible").count() == 4
    assert page.get_by_text("This is the static picture").count() == 3
