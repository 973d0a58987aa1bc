"""What keeps an explorer from starting is said."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from clip_lens_plugin.app.server import serve as serving
from clip_lens_plugin.app.server.guard import LOOPBACK
from clip_lens_plugin.app.server.serve import Server, refuse_without_gradio, serve
from clip_lens_plugin.app.server.temporary import READ_BY_GRADIO, Folder, new_folder


@pytest.mark.parametrize(("port", "message"), [(0, "port must be"), (65_536, "Ports go up to 65535")])
def test_a_port_that_cannot_be(port, message) -> None:
    with pytest.raises(ValueError, match=message):
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


def test_a_page_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio")
    opened, made = [], socket.socket

    def listening() -> socket.socket:
        opened.append(made())
        return opened[-1]

    def page() -> None:
        raise ValueError("no such model")

    monkeypatch.setattr(serving.socket, "socket", listening)
    with pytest.raises(ValueError, match="no such model"):
        serve(page)
    assert [each.fileno() for each in opened] == [-1]
    assert READ_BY_GRADIO not in os.environ


def test_two_explorers_share_a_folder_until_the_last_is_closed() -> None:
    with pytest.raises(RuntimeError, match="No explorer runs"):
        new_folder()
    first, second = Folder(), Folder()
    saved = new_folder()
    (saved / "page.html").write_text("")
    first.close()
    first.close()
    assert (saved / "page.html").exists()
    assert saved.is_relative_to(os.environ[READ_BY_GRADIO])
    second.close()
    assert not saved.parent.exists()
    assert READ_BY_GRADIO not in os.environ


def test_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'clip_lens_plugin\[app\]'"):
        refuse_without_gradio()
