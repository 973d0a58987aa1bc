"""A real browser without a network, where the machine has one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Chromium of this machine; Playwright downloads none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a browser: none of {NAMES} is on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_offline(browser) -> Iterator[Callable[..., object]]:
    """Opens a file with the network off; whatever the page complained of fails the test when it ends."""
    complaints: list[str] = []
    contexts = []

    def open_page(path: Path, width: int = 1120, scheme: str = "light") -> object:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.resolve().as_uri())
        page.wait_for_function(
            "[...document.querySelectorAll('.cl-drawn')]"
            ".every((n) => ['drawn', 'failed', 'offered'].includes(n.dataset.state))"
        )
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
