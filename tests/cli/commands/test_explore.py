"""What ``clip-lens explore`` serves, and what it refuses before a model is loaded."""

from __future__ import annotations

import pytest

from clip_lens_plugin.app import exploring
from clip_lens_plugin.model.hooked_clip import HookedCLIP

pytest.importorskip("gradio")


class Served:
    """In the place of a running explorer."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def page(self, query: str) -> str:
        return f"http://here/?{query}"

    def open(self, query: str) -> None:
        self.opened.append(query)

    def wait(self) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    found = Served()
    monkeypatch.setattr(exploring, "serve_data", lambda *given, **more: found)
    return found


def test_a_link_is_opened(run, served, scenes_store) -> None:
    result = run("explore", scenes_store, "--at", "?image=3&tab=off&off=L5")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "http://here/?tab=off&image=3&off=L5\n"
    assert served.opened == ["tab=off&image=3&off=L5"]


def test_mistakes_are_one_line(refused, scenes_store, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(HookedCLIP, "from_options", lambda *a, **k: pytest.fail("a model was loaded"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").mkdir()
    told = refused("explore", "my photos")
    assert "my photos holds no collection. Explore a folder of images with --images 'my photos', or collect" in told
    assert "--limit is for folders of images" in refused("explore", scenes_store, "--limit", 3)
    assert "does not say tab=size" in refused("explore", scenes_store, "--at", "tab=size")
