"""Who gets in: the right name, the own page, the token; each alone is not enough."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from clip_lens_plugin.app.server.guard import HEADERS, Guard, new_token

PORT, TOKEN = 7860, "a-token"


def answered(path: str = f"/{TOKEN}/", kind: str = "http", **headers: str) -> list[Any]:
    """What is sent for a request."""
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
        await send({"type": "http.response.body", "body": b"within"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": path, "headers": given}
    with ThreadPoolExecutor(1) as own:  # Playwright leaves a running loop in the thread of the tests.
        own.submit(asyncio.run, Guard(application, TOKEN, PORT)(scope, receive, send)).result()
    return sent


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST:7860"])
def test_the_own_page_gets_in(host: str) -> None:
    start, body = answered(host=host, origin=f"http://{host}")
    assert start["status"] == 200
    assert body["body"] == b"within"
    assert set(HEADERS) <= set(start["headers"])
    assert [value for name, value in start["headers"] if name == b"cache-control"] == [b"no-store"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "127.0.0.1"},
        {"host": "127.0.0.1:7861"},
        {"host": "attacker.example:7860"},
        {"host": "127.0.0.1:7860.attacker.example"},
        {"host": "127.0.0.1:7860", "origin": "http://attacker.example"},
        {"host": "127.0.0.1:7860", "origin": "null"},
        {"host": "127.0.0.1:7860", "origin": "https://127.0.0.1:7860"},
        {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7861"},
    ],
)
def test_other_names_and_other_pages_are_refused(headers: dict[str, str]) -> None:
    start, body = answered(**headers)
    assert start["status"] == 403
    assert b"within" not in body["body"]
    assert answered(kind="websocket", **headers) == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("path", ["/", "", "/a-toke/", "/a-token-and/", "/A-TOKEN/", "//a-token/", "/x/a-token/"])
def test_without_the_token_nothing_is_served(path: str) -> None:
    start, body = answered(path, host="127.0.0.1:7860")
    assert start["status"] == 403
    assert b"lacks the explorer's token" in body["body"]


def test_the_icon_that_browsers_ask_for_is_empty() -> None:
    start, body = answered("/favicon.ico", host="127.0.0.1:7860")
    assert (start["status"], body["body"]) == (204, b"")


def test_tokens_are_long_and_differ() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 22
