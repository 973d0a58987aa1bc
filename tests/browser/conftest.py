"""A real browser without a network, where the machine has one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def states(page: Any) -> list[str]:
    """Kind and state of each view that a script draws."""
    return page.eval_on_selector_all(".cl-drawn", "nodes => nodes.map((n) => `${n.dataset.kind} ${n.dataset.state}`)")


def wait_until_drawn(page: Any) -> None:
    """Asked from outside: a page's own policy lets nobody wait inside it."""
    until = time.monotonic() + 30
    while not all(state.split()[-1] in ("drawn", "failed", "offered") for state in states(page)):
        assert time.monotonic() < until, states(page)
        page.wait_for_timeout(50)


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
        wait_until_drawn(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
