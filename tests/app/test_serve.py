"""What keeps an explorer from starting is said."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from clip_lens_plugin.app import serve as serving
from clip_lens_plugin.app.guard import LOOPBACK
from clip_lens_plugin.app.serve import Server, refuse_without_gradio, serve


@pytest.mark.parametrize(("port", "told"), [(0, "port must be"), (65_536, "Ports go up to 65535")])
def test_a_port_that_cannot_be(port, told) -> None:
    with pytest.raises(ValueError, match=told):
        serve(lambda: pytest.fail("The page was made."), port)


def test_a_page_is_opened_at_its_link(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    opened = []
    monkeypatch.setattr(serving.webbrowser, "open", opened.append)
    server: Any = SimpleNamespace(address="http://127.0.0.1:1/token/", page=lambda query: Server.page(server, query))
    Server.open(server)
    Server.open(server, "tab=off&off=L5")
    assert opened == ["http://127.0.0.1:1/token/", "http://127.0.0.1:1/token/?tab=off&off=L5"]


def test_a_port_that_is_taken() -> None:
    pytest.importorskip("gradio")
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        with pytest.raises(OSError, match="is taken: give another"):
            serve(lambda: pytest.fail("The page was made."), other.getsockname()[1])


def test_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'clip_lens_plugin\[app\]'"):
        refuse_without_gradio()
