"""The report opens without a network, on a wide screen and on a phone, in light and in dark."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clip_lens_plugin import HookedCLIP, TextPool
from clip_lens_plugin.report.analyses import Question, analyse
from clip_lens_plugin.scenes.captions import prompts
from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.views.report.report import InExplorer, write_report
from tests.browser.conftest import states

pytestmark = pytest.mark.browser

N = 40

CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).slice(0, 3).map((c) => c / 255)
      .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const colour = getComputedStyle(n).backgroundColor;
      if (numbers(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const nodes = document.querySelectorAll(
    "h1, h2, h3, h4, p, a, td, th, summary, .cl-name, .cl-number, .cl-line span, .cl-soft");
  return [...nodes].filter((n) => n.offsetParent && n.textContent.trim()).map((n) => {
    const [a, b] = [light(getComputedStyle(n).color), light(behind(n))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), n.className || n.tagName];
  });
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    scenes = [ScenesDataset(N, 6, "background")[i] for i in range(N)]
    found = analyse(
        model,
        model.prepare([picture for picture, _ in scenes]),
        names=[f"scene {i}" for i in range(N)],
        pool=TextPool.from_strings([*prompts("background"), *prompts("shape"), *prompts("colour")]),
        questions=[Question("background", tuple(prompts("background")), torch.tensor([label for _, label in scenes]))],
        photograph=lambda i: scenes[i][0],
    )
    opened = {"layers": [InExplorer("Switch off", "clip-lens explore 'my \"store\"' --at 'tab=off&off=L5'")]}
    return write_report(found, tmp_path_factory.mktemp("report"), opened)


OPEN_ALL = "document.querySelectorAll('details').forEach((each) => { each.open = true; })"


@pytest.mark.parametrize(("width", "scheme"), [(1120, "light"), (390, "dark")])
def test_it_is_drawn_fits_and_can_be_read(report, open_offline, width, scheme):
    page = open_offline(report, width, scheme)
    assert states(page) == ["patch-text drawn"] * 4
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 100
    assert min(contrasts)[0] > 4.5, min(contrasts)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_answers_fill_one_screen_and_links_open_what_is_folded(report, open_offline):
    page = open_offline(report, 1200)
    assert page.eval_on_selector(".answers", "node => node.getBoundingClientRect().bottom") <= 900
    folded = page.locator("details.fold")
    assert [each.get_attribute("open") for each in folded.all()] == [None] * folded.count()
    links = {link.get_attribute("href") for link in page.locator(".answers a").all()}
    assert links == {"#layers", "#heads", "#textspan", "#ablation"}
    for target in links:
        page.locator(f".answers a[href='{target}']").first.click()
        assert page.locator(target).is_visible(), target
    assert not page.locator("#files").is_visible()


def hits_shown(page) -> str:
    return page.locator("#found").inner_text()


def test_heads_and_texts_are_found_by_keyboard(report, open_offline):
    page = open_offline(report, 390, "dark")
    places = """() => ["#find", ".answers", ".fold", "footer"].map(
      (each) => document.querySelector(each).getBoundingClientRect().top)"""
    before = page.evaluate(places)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "find"
    for typed in ("l5H0", "Layer 5,  head 0", "5, head 0"):
        page.keyboard.type(typed)
        assert page.locator("#heads td.found").get_attribute("title").startswith("layer 5, head 0: ")
        cards = page.locator("#textspan .cl-card.found h4")
        assert cards.evaluate_all("nodes => nodes.map((each) => each.textContent)") == ["Layer 5, head 0"]
        n = page.locator(".found").count()
        assert hits_shown(page).startswith(f"{n} found in ")
        assert page.evaluate(places) == before
        page.keyboard.press("Escape")
        assert page.input_value("#find") == ""
        assert page.locator(".found, .left-out, [data-found]").count() == 0
    page.keyboard.type("navy BACK")
    found = page.locator(".found")
    hits = found.evaluate_all("nodes => nodes.map((each) => each.textContent)")
    assert len(hits) > 2
    assert all("navy background" in each for each in hits)
    in_sections = page.locator("summary[data-found]").evaluate_all("nodes => nodes.map((each) => +each.dataset.found)")
    assert sum(in_sections) + page.locator(".answers .found").count() == len(hits)
    for at in (*range(1, len(hits) + 1), 1):
        page.keyboard.press("Enter")
        assert hits_shown(page).startswith(f"{at} of {len(hits)}: ")
        assert page.locator(".found-now").count() == 1
        assert page.locator(".found-now").is_visible()
    page.keyboard.press("Shift+Enter")
    assert hits_shown(page).startswith(f"{len(hits)} of {len(hits)}: ")
    assert page.evaluate("document.activeElement.id") == "find"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.type("<img src=x onerror=alert(1)>")
    assert hits_shown(page) == "0 found in 0 sections"


def test_without_scripts_there_is_no_box_and_commands_can_be_copied(report, browser, open_offline):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    assert not page.locator("#find").is_visible()
    context.close()
    page = open_offline(report)
    page.evaluate(OPEN_ALL)
    page.locator("#layers code").focus()
    assert page.evaluate("getSelection().toString()") == "clip-lens explore 'my \"store\"' --at 'tab=off&off=L5'"


def test_what_is_folded_is_printed(report, open_offline):
    page = open_offline(report, 1120)
    assert not page.locator("#files").is_visible()
    page.emulate_media(media="print")
    assert page.locator("#files").is_visible()
    assert page.locator("#textspan .cl-card").first.is_visible()


def test_without_scripts_maps_lie_over_the_photographs(report, browser):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    page.get_by_text("Patch-text maps", exact=True).click()
    photograph = page.locator("#heatmaps .cl-photo").first
    mapped = photograph.locator(".cl-map")
    assert photograph.bounding_box()["width"] > 100
    assert mapped.bounding_box() == pytest.approx(photograph.bounding_box(), abs=1)
    context.close()


def test_thumbnails_show(report, open_offline):
    page = open_offline(report)
    sizes = page.evaluate("""async () => Promise.all([...document.querySelectorAll(".cl-thumb")].map(async (n) => {
      const picture = new Image();
      picture.src = getComputedStyle(n).backgroundImage.slice(5, -2);
      await picture.decode();
      return picture.naturalWidth;
    }))""")
    assert len(sizes) > 20
    assert set(sizes) == {56}


def test_its_maps_can_be_explored(report, open_offline):
    page = open_offline(report)
    page.evaluate(OPEN_ALL)
    explorer = page.locator("[data-kind='patch-text']").nth(1)
    explorer.get_by_role("gridcell", name="layer 5, head 0").click()
    page.mouse.move(0, 0)
    assert explorer.locator(".cl-readout").inner_text().startswith("Layer 5, head 0")
    assert page.locator("[data-kind='patch-text']").nth(0).locator(".cl-readout").inner_text().startswith("All heads")


def test_numbers_of_an_axis_lie_over_no_bar(report, open_offline):
    page = open_offline(report, 390)
    edges = """(selector) => [...document.querySelectorAll(selector)].map((each) => {
      const box = each.getBoundingClientRect();
      return [box.left, box.right];
    })"""
    numbers = page.evaluate(edges, ".chart .plot > span")
    bars = page.evaluate(edges, ".chart .plot > i.heads, .chart .plot > i.mlp")
    assert len(numbers) >= 2
    assert max(right for _, right in numbers) <= min(left for left, _ in bars)
    assert min(left for left, _ in numbers) >= 0
