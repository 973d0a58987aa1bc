"""The report opens without a network, on a wide screen and on a phone, in light and in dark."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clip_lens_plugin import HookedCLIP, TextPool
from clip_lens_plugin.report.analyses import Question, analyse
from clip_lens_plugin.scenes.captions import prompts
from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.views.report import write_report
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
    return write_report(found, tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize(("width", "scheme"), [(1120, "light"), (390, "dark")])
def test_it_is_drawn_fits_and_can_be_read(report, open_offline, width, scheme):
    page = open_offline(report, width, scheme)
    assert states(page) == ["patch-text drawn"] * 4
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 100
    assert min(contrasts)[0] > 4.5, min(contrasts)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_contents_lead_there_and_thumbnails_show(report, open_offline):
    page = open_offline(report)
    for link in page.locator("nav a").all():
        target = link.get_attribute("href")
        link.click()
        top = page.eval_on_selector(target, "node => node.getBoundingClientRect().top")
        bottom = page.evaluate("innerHeight + scrollY - document.documentElement.scrollHeight")
        assert abs(top) < 5 or bottom > -5, target
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
    explorer = page.locator("[data-kind='patch-text']").nth(1)
    explorer.get_by_role("gridcell", name="layer 5, head 0").click()
    page.mouse.move(0, 0)
    assert explorer.locator(".cl-readout").inner_text().startswith("Layer 5, head 0")
    assert page.locator("[data-kind='patch-text']").nth(0).locator(".cl-readout").inner_text().startswith("All heads")
