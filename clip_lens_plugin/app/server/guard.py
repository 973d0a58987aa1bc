"""Who may speak to the explorer: whoever has its address, from this machine, from its own page."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = "127.0.0.1"
NAMES = (LOOPBACK, "localhost")
"""How a browser on this machine may call it."""

NOTHING_FROM_OUTSIDE = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; form-action 'self'; base-uri 'self'; frame-ancestors 'self'"
)
"""The policy that browsers hold the page to. Its own scripts stand in it, and so do those of our views."""

ICON = "/favicon.ico"
"""Which browsers ask for beside any page; there is none."""

HEADERS = (
    (b"content-security-policy", NOTHING_FROM_OUTSIDE.encode()),
    (b"referrer-policy", b"no-referrer"),  # An address holds the token.
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


def new_token() -> str:
    """128 random bits for an address."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True)
class Guard:
    """An application behind a token in the path, and checks of what a request says of its origin.

    A request whose Host is another name comes from a page that a foreign name server sent here; one whose Origin is
    another page's was made by that page. Both are refused, and so is everything outside of the token's path: nobody
    else on the machine knows it.

    Attributes:
        application: is called for what is let through.
        token: the first part of the path.
        port: the address's.
    """

    application: Application
    token: str
    port: int

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] == ICON:
            await send({"type": "http.response.start", "status": 204, "headers": list(HEADERS)})
            await send({"type": "http.response.body", "body": b""})
            return
        reason = self._refused(scope)
        if reason is None:
            await self.application(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            plain = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
            await send({"type": "http.response.start", "status": 403, "headers": plain})
            await send({"type": "http.response.body", "body": reason.encode()})

    def _refused(self, scope: Message) -> str | None:
        """Why a request is not let through."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts = [f"{name}:{self.port}".encode() for name in NAMES]
        if len(headers.get(b"host", [])) != 1 or headers[b"host"][0].lower() not in hosts:
            return f"The explorer answers to {NAMES[0]}:{self.port} alone: open the address that it printed."
        if any(origin.lower() not in [b"http://" + host for host in hosts] for origin in headers.get(b"origin", [])):
            return "The explorer answers its own page alone."
        first = scope["path"].removeprefix("/").partition("/")[0]
        if not secrets.compare_digest(first.encode(), self.token.encode()):
            return "This address lacks the explorer's token: open the address that it printed."
        return None


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = {name for name, _ in HEADERS}
            kept = [pair for pair in message.get("headers", []) if pair[0].lower() not in ours]
            message = {**message, "headers": [*kept, *HEADERS]}
        await send(message)

    return sent
