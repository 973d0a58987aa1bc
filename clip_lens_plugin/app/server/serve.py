"""The explorer's server: on the loopback address, for as long as its process runs or until it is closed."""

from __future__ import annotations

import os
import socket
import threading
import time
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from clip_lens_plugin.app.server.guard import LOOPBACK, Guard, new_token
from clip_lens_plugin.app.server.temporary import Folder
from clip_lens_plugin.arguments import checked_number

if TYPE_CHECKING:
    import uvicorn
    from gradio import Blocks

MOST_UPLOADED = 20 * 2**20
"""Bytes of a picture."""

MOST_PORT = 65_535

SOON = 10.0
"""Seconds that a server has to start, or to end."""


@dataclass
class Server:
    """A running explorer.

    Attributes:
        address: to open in a browser on this machine; it holds the token, so whoever has it is let in.
    """

    address: str
    _server: uvicorn.Server
    _thread: threading.Thread
    _folder: Folder

    def close(self) -> None:
        """Ends it, and removes what was uploaded, unless another explorer of this process is left."""
        self._server.should_exit = True
        self._thread.join(SOON)
        self._folder.close()

    def wait(self) -> None:
        """Returns when it has ended; Ctrl-C ends it."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.2)
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def page(self, query: str = "") -> str:
        """The address of what a link says after its question mark."""
        return f"{self.address}?{query}" if query else self.address

    def open(self, query: str = "") -> None:
        """Opens the browser, where there is one, at what a link says after its question mark."""
        webbrowser.open(self.page(query))

    def __repr__(self) -> str:
        return f"Server({self.address!r})"


def refuse_without_gradio() -> None:
    """Raises ModuleNotFoundError, which says how to install it."""
    if find_spec("gradio") is None:
        raise ModuleNotFoundError(
            "The explorer needs Gradio, which is not installed: pip install 'clip_lens_plugin[app]'.", name="gradio"
        )


def serve(page: Callable[[], Blocks], port: int | None = None) -> Server:
    """Starts a server of what ``page`` makes.

    Args:
        port: of the loopback address; a free one if not given.

    Raises:
        ValueError: if there is no such port.
        OSError: if the port is taken.
        RuntimeError: if the server does not start.
    """
    if port is not None and checked_number("port", port) > MOST_PORT:
        raise ValueError(f"Ports go up to {MOST_PORT}, got {port}: give another, or none for a free one.")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Read when it is imported.
    with ExitStack() as failed:
        folder = Folder()
        failed.callback(folder.close)
        listening = _listening(port)
        failed.callback(listening.close)
        server = _started(page, listening, folder)
        failed.pop_all()
    return server


def _listening(port: int | None) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port or 0))
    except OSError as error:
        listening.close()
        raise OSError(f"Port {port} of {LOOPBACK} is taken: give another, or none for a free one.") from error
    return listening


def _started(page: Callable[[], Blocks], listening: socket.socket, folder: Folder) -> Server:
    import gradio
    import uvicorn
    from fastapi import FastAPI

    from clip_lens_plugin.app.server.look import CSS, theme

    number, token = listening.getsockname()[1], new_token()
    within = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gradio.mount_gradio_app(
        within,
        page(),
        path=f"/{token}",
        server_name=LOOPBACK,
        server_port=number,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=MOST_UPLOADED,
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=CSS,
    )
    config = uvicorn.Config(
        Guard(within, token, number), log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True, name="explorer")
    thread.start()
    until = time.monotonic() + SOON
    while not server.started and thread.is_alive() and time.monotonic() < until:
        thread.join(0.05)
    if not server.started:
        server.should_exit = True
        raise RuntimeError("The explorer's server did not start.")
    return Server(f"http://{LOOPBACK}:{number}/{token}/", server, thread, folder)
