"""A picture of each page of the explorer, as the documentation shows it.

``CLIP_LENS_SCREENSHOTS=docs/pages/assets/explorer`` in the environment makes those of the documentation anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from clip_lens_plugin import HookedCLIP, explore
from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.scenes.dataset import ScenesDataset
from tests.browser.test_explorer import WAIT, answered
from tests.browser.test_explorer import pytestmark as of_explorer

pytestmark = [*of_explorer, pytest.mark.slow]
pytest.importorskip("gradio")

SHOWN = Path(__file__).parents[2] / "docs" / "pages" / "assets" / "explorer"
LINKS = {
    "image": "image=6&text=a+red+cross&text=a+purple+circle",
    "why": "image=6&text=a+red+cross&text=a+purple+circle",
    "off": "image=6&text=a+red+cross&text=a+purple+circle&off=L5&off=M3",
    "search": "image=6&text=a+red+cross&head=L2H7&head=L4H6",
    "heads": "image=6&text=a+red+cross&text=a+purple+circle&head=L4H6",
    "neurons": "image=6&text=a+red+cross&text=a+purple+circle&neuron=L3",
}
WIDTH, HEIGHT = 1120, 1900


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    server = explore(model, [ScenesDataset(40, 5)[i] for i in range(40)], open_browser=False)
    yield server.address
    server.close()


@pytest.mark.parametrize("tab", PAGES)
def test_a_picture_of_each_page(browser, address: str, tab: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("CLIP_LENS_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page()
    page.goto(f"{address}?tab={tab}&{LINKS[tab]}")
    page.wait_for_selector("#chosen img", timeout=WAIT)
    answered(page, tab)
    page.wait_for_function("!document.querySelector('.generating, .pending, progress')", timeout=WAIT)
    page.wait_for_timeout(500)  # Views draw themselves after they are there.
    page.screenshot(path=tmp_path / "page.png")
    page.context.close()
    made = Image.open(tmp_path / "page.png").convert("RGB")
    assert len(made.getcolors(WIDTH * HEIGHT) or ()) > 500
    made.quantize(256).save(folder / f"{tab}.png", optimize=True)
    assert Image.open(SHOWN / f"{tab}.png").size == (WIDTH, HEIGHT)
