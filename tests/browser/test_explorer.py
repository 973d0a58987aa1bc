"""The explorer in a real browser: every page, keyboard, phone, dark, hostile texts and uploads, no outside request."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clip_lens_plugin import HookedCLIP, explore
from clip_lens_plugin.app.heads import about_heads
from clip_lens_plugin.bars import tracked
from clip_lens_plugin.scenes.dataset import ScenesDataset

# Once more: Gradio's client loses what is asked while the stream of its answers closes, and then shows none.
pytestmark = [pytest.mark.browser, pytest.mark.flaky(reruns=1, only_rerun="TimeoutError")]
pytest.importorskip("gradio")

EVIL = "<img src=x onerror=alert(1)>"
WAIT = 60_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of an explorer whose process reaches this machine alone."""
    own, reached = socket.socket.connect, []

    def connect(self: socket.socket, to: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and to[0] not in ("127.0.0.1", "::1", "localhost"):
            reached.append(to)
            raise OSError(f"{to} is outside")
        own(self, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr("clip_lens_plugin.app.interface.IN_GALLERY", 8)
        model = HookedCLIP.from_pretrained("scenes", device="cpu")
        pictures = [ScenesDataset(12, 5)[i] for i in range(12)]
        server = explore(model, pictures, texts=["a circle", "a star"], open_browser=False)
        yield server.address
        server.close()
    assert reached == []
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(server.address, timeout=5)


@pytest.fixture
def opened(browser, address: str) -> Iterator[Callable[..., Any]]:
    """Opens the explorer; what the page complained of, or asked of others, fails the test when it ends."""
    complaints: list[str] = []
    contexts = []

    def open_page(query: str = "", width: int = 1120, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda each: complaints.append(each.text) if each.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda each: None if _is_own(each.url, address) else complaints.append(each.url))
        page.goto(address + query)
        page.wait_for_selector("#chosen img", timeout=WAIT)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _is_own(url: str, address: str) -> bool:
    root = address.rsplit("/", 2)[0]
    return url.startswith((address, f"{root}/favicon.ico", "data:", "blob:", "about:"))


def answer(page: Any, tab: str) -> Any:
    """The frame of a page, after its button was pressed."""
    page.click(f"#ask-{tab}")
    return answered(page, tab)


def answered(page: Any, tab: str) -> Any:
    """The frame of a page that answers, as it does when a link opens it."""
    page.wait_for_selector(f"#view-{tab} iframe", timeout=WAIT)
    frame = page.frame_locator(f"#view-{tab} iframe")
    if tab == "image":  # Its last part, after which the frame is not put in anew.
        frame.get_by_text("Words and patches of").first.wait_for(timeout=WAIT)
    return frame


def test_the_image_page_answers(opened) -> None:
    page = opened()
    frame = answer(page, "image")
    frame.get_by_text("Patch-text maps of image 0").first.wait_for(timeout=WAIT)
    frame.get_by_text("Words and patches of image 0").first.wait_for(timeout=WAIT)
    rows = page.locator("#table-image tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == ["text", "a circle", "a star"]
    sandbox = page.locator("#view-image iframe").get_attribute("sandbox")
    assert sandbox == "allow-scripts"


def test_a_link_opens_a_page_as_it_was(opened) -> None:
    page = opened("?tab=off&image=3&text=a+blue+star&text=a+circle&off=L5&off=L4H2&ablation=zero", 390, "dark")
    assert page.input_value("#row input") == "3"
    assert page.input_value("#texts textarea") == "a blue star\na circle"
    frame = answered(page, "off")
    frame.get_by_text("through the heads that are left").first.wait_for(timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("button", has_text="Copy as Python").locator("visible=true").click()
    link = page.locator("#link-off a").get_attribute("href")
    assert link == "?tab=off&image=3&text=a+blue+star&text=a+circle&off=L5&off=L4H2&ablation=zero"
    code = page.locator("#python-off").inner_text()
    assert "Components.of_attention(model, [5]) | Components.of_heads(model, [(4, 2)])" in code


def test_a_link_to_the_first_page_is_answered_though_it_leaves_out_its_name(opened) -> None:
    page = opened("?image=5&text=a+circle&text=a+star")
    answered(page, "image").get_by_text("Patch-text maps of image 5").first.wait_for(timeout=WAIT)


def test_an_answer_to_what_was_chosen_before_says_so(opened) -> None:
    page = opened("?image=5&text=a+circle&text=a+star")
    answered(page, "image")
    before = page.locator("#status-image").get_by_text("chosen before")
    page.fill("#row input", "6")
    before.wait_for(timeout=WAIT)
    page.fill("#row input", "5")
    before.wait_for(state="detached", timeout=WAIT)
    page.fill("#texts textarea", "a circle\na square")
    before.wait_for(timeout=WAIT)
    page.click("#ask-image")
    page.locator("#table-image").get_by_text("a square").wait_for(timeout=WAIT)
    before.wait_for(state="detached", timeout=WAIT)


def test_search_and_why_answer(opened) -> None:
    page = opened("?tab=search&head=L5H3")
    answered(page, "search").get_by_text("Nearest to image 0 by layer 5, head 3").first.wait_for(timeout=WAIT)
    page.get_by_role("tab", name="Why").click()
    answer(page, "why").get_by_text("rather than").first.wait_for(timeout=WAIT)


def test_the_gallery_turns_its_pages(opened) -> None:
    page = opened()
    page.get_by_text("pictures 1 to 8 of 12").wait_for(timeout=WAIT)
    page.click("#later")
    page.get_by_text("pictures 9 to 12 of 12").wait_for(timeout=WAIT)
    page.wait_for_function("document.querySelectorAll('#gallery .thumbnail-item').length == 4", timeout=WAIT)
    page.locator("#gallery .thumbnail-item").nth(1).click()
    page.wait_for_selector("#chosen >> text=image 9", timeout=WAIT)
    assert page.input_value("#row input") == "9"
    page.click("#earlier")
    page.get_by_text("pictures 1 to 8 of 12").wait_for(timeout=WAIT)


def test_heads_on_a_grid_and_one_of_them(opened) -> None:
    page = opened("?tab=heads&image=2")
    frame = answered(page, "heads")
    frame.get_by_text("What each head adds to the embedding").wait_for(timeout=WAIT)
    assert frame.locator(".cl-grid td").count() == 6 * 8
    page.click("#opened input")
    page.get_by_role("option", name="L5H3", exact=True).click()
    page.click("#ask-heads")
    frame.get_by_text("Nearest to image 2 by layer 5, head 3").wait_for(timeout=WAIT)
    titles = frame.locator("h2").all_inner_texts()
    assert titles[1:3] == ["Texts of layer 5, head 3", "Pictures of the texts of layer 5, head 3"]
    assert "random directions" in frame.locator("section").nth(1).inner_text()
    page.locator("button", has_text="Copy as Python").locator("visible=true").click()
    link = page.locator("#link-heads a").get_attribute("href")
    assert link == "?tab=heads&image=2&text=a+circle&text=a+star&head=L5H3"


def test_stop_ends_the_search_for_roles(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def endless(*given: Any, **named: Any) -> None:
        try:
            for _ in tracked(range(10_000), "turned pools", visible=False):
                time.sleep(0.02)
        finally:
            ended.set()

    monkeypatch.setattr(about_heads, "head_roles", endless)
    page = opened("?tab=heads&by=role", 390, "dark")
    page.wait_for_selector("#status-heads >> text=turned pools", timeout=WAIT)
    page.click("#stop-heads")
    page.wait_for_selector("#status-heads >> text=Stopped.", timeout=WAIT)
    assert ended.wait(30)
    assert page.locator("#view-heads iframe").count() == 0


def test_neurons_answer_by_keyboard(opened) -> None:
    page = opened("?tab=neurons&image=3&neuron=L4", 390, "dark")
    assert page.input_value("#neuron input, #neuron textarea") == "L4"
    page.locator("#neuron input, #neuron textarea").focus()
    page.keyboard.press("Enter")
    frame = page.frame_locator("#view-neurons iframe")
    frame.get_by_text("The 12 strongest neurons of layer 4").first.wait_for(timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#table-neurons tr").count() == 12
    page.keyboard.type("n208")
    page.keyboard.press("Enter")
    frame.get_by_text("direction of L4N208").first.wait_for(timeout=WAIT)
    page.locator("button", has_text="Copy as Python").locator("visible=true").click()
    assert page.locator("#link-neurons a").get_attribute("href").endswith("&neuron=L4N208")
    assert "neurons=[208]" in page.locator("#python-neurons").inner_text()
    page.keyboard.press("Escape")
    page.fill("#neuron input, #neuron textarea", "L5")
    page.click("#ask-neurons")
    page.get_by_text("Layer 5 is the last").first.wait_for(timeout=WAIT)


def test_several_heads_are_searched_by_a_text_or_an_uploaded_picture(opened, tmp_path: Path) -> None:
    page = opened("?tab=search&head=L5H3&head=L4H2&like=text&text=a+red+circle&text=" + EVIL, 390, "dark")
    frame = answered(page, "search")
    frame.get_by_text("Nearest to “a red circle” by layer 5, head 3; layer 4, head 2").first.wait_for(timeout=WAIT)
    assert frame.locator("figure img").count() == 12
    rows = page.locator("#table-search tr").all_inner_texts()
    assert rows[0].split("\t") == ["place", "number", "picture", "score"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("button", has_text="Copy as Python").locator("visible=true").click()
    assert page.locator("#link-search a").get_attribute("href").endswith("&head=L5H3&head=L4H2&like=text")
    assert (
        "nearest_to_text(data, 'a red circle', 12, heads=[(5, 3), (4, 2)])"
        in page.locator("#python-search").inner_text()
    )
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    page.set_input_files("input[type=file]", tmp_path / "red.png")
    page.wait_for_selector("#chosen >> text=uploaded picture", timeout=WAIT)
    page.get_by_label("the picture", exact=True).check()
    page.click("#ask-search")
    frame.get_by_text("Nearest to uploaded picture by").first.wait_for(timeout=WAIT)


def test_texts_lead_and_are_contrasted_on_the_image_page(opened) -> None:
    page = opened("?image=3&text=a+circle&text=a+star&text=" + EVIL)
    frame = answered(page, "image")
    kinds = frame.get_by_label("show")
    kinds.select_option(label="which text leads at each patch")
    frame.locator(".cl-topics li").last.wait_for(timeout=WAIT)
    led = frame.locator(".cl-topics li").all_inner_texts()
    assert led[-1].startswith("none: ")
    assert sum(int(each.rsplit(": ")[1]) for each in led) == 49
    kinds.select_option(label="minus “a star”")
    frame.get_by_text("“a circle” minus “a star”").first.wait_for(timeout=WAIT)


def test_by_keyboard_alone(opened) -> None:
    page = opened()
    page.locator("#texts textarea").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("a green ring")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "ask-image":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#table-image >> text=a green ring", timeout=WAIT)


def test_hostile_texts_and_uploads(opened, tmp_path: Path) -> None:
    page = opened()
    page.fill("#texts textarea", EVIL)
    answer(page, "image")
    assert page.locator("#table-image").inner_text().count(EVIL) == 1
    assert page.locator("#table-image img").count() == 0
    (tmp_path / "evil.png").write_text("<script>alert(1)</script>")
    page.set_input_files("input[type=file]", tmp_path / "evil.png")
    page.get_by_text("cannot be used").first.wait_for(timeout=WAIT)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    page.set_input_files("input[type=file]", tmp_path / "red.png")
    page.wait_for_selector("#chosen >> text=uploaded picture", timeout=WAIT)
    frame = answer(page, "image")
    frame.get_by_text("Words and patches of uploaded picture").first.wait_for(timeout=WAIT)
    page.locator("button", has_text="Copy as Python").locator("visible=true").click()
    page.wait_for_selector("#link-image >> text=An uploaded picture has no link", timeout=WAIT)


def test_two_browsers_do_not_disturb_each_other(opened) -> None:
    first, second = opened("?image=1&text=a+circle"), opened("?image=2&text=a+star")
    answered(first, "image")
    answered(second, "image")
    assert "a circle" in first.locator("#table-image").inner_text()
    assert "a star" in second.locator("#table-image").inner_text()
    assert "image 1" in first.locator("#chosen").inner_text()


@pytest.mark.parametrize("path", ["gradio_api/file=/etc/passwd", "gradio_api/file=pyproject.toml", "../../etc/passwd"])
def test_no_file_of_the_disk_is_served(address: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(address + path, timeout=30)
    assert raised.value.code in (403, 404)
