"""What ``clip-lens explore`` serves, and what it refuses before a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clip_lens_plugin.app import exploring
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from tests.support.two_by_two import groups_table

pytest.importorskip("gradio")


class Served:
    """In the place of a running explorer."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.given: tuple[Any, ...] = ()
        self.more: dict[str, Any] = {}

    def page(self, query: str) -> str:
        return f"http://here/?{query}"

    def open(self, query: str) -> None:
        self.opened.append(query)

    def wait(self) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    found = Served()

    def serve_data(*given: Any, **more: Any) -> Served:
        found.given, found.more = given, more
        return found

    monkeypatch.setattr(exploring, "serve_data", serve_data)
    return found


@pytest.fixture
def metadata(tmp_path: Path, scenes_store: Path) -> Path:
    return groups_table(tmp_path / "metadata.csv", scenes_store, "name,hue,ground", "blue", "red")


def test_a_link_is_opened(run, served, scenes_store) -> None:
    result = run("explore", scenes_store, "--at", "?image=3&tab=off&off=L5")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "http://here/?tab=off&image=3&off=L5\n"
    assert served.opened == ["tab=off&image=3&off=L5"]


def test_mistakes_are_one_line(refused, scenes_store, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(HookedCLIP, "from_options", lambda *a, **k: pytest.fail("a model was loaded"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").mkdir()
    printed = refused("explore", "my photos")
    assert "my photos holds no store. Explore a folder of images with --images 'my photos', or collect" in printed
    assert "--limit is for folders of images" in refused("explore", scenes_store, "--limit", 3)
    assert "does not say tab=size" in refused("explore", scenes_store, "--at", "tab=size")


def test_groups_are_compared_and_a_script_says_how(run, served, scenes_store, metadata) -> None:
    columns = ("--label-column", "hue", "--cue-column", "ground", "--pair", "red", "blue")
    result = run("explore", scenes_store, "--groups", metadata, *columns)
    assert result.exit_code == 0, result.stderr
    model, data, spelled = served.given
    found = served.more["groups"]
    assert found.classes == ("red", "blue")
    assert found.cues == ("dark", "light")
    names: dict[str, Any] = {"model": model, "data": data}
    exec(spelled.effects, names)
    assert names["effects"].to_dataframe().equals(found.to_dataframe())
    assert served.more["groups"].heads_by_chance().shape == (model.cfg.n_layers, model.cfg.n_heads)


def test_groups_that_cannot_be_compared_are_refused_before_images_are_run(
    refused, tmp_path, metadata, scenes_store, monkeypatch
) -> None:
    monkeypatch.setattr("clip_lens_plugin.collection.running.collecting.collect", lambda *a, **k: pytest.fail("a run"))
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    given = ("explore", "--images", tmp_path / "photos", "--groups")
    assert "There is no text file" in refused(*given, tmp_path / "no.csv")
    assert "no column 'place' for the cue" in refused(*given, metadata)
    (tmp_path / "own.csv").write_text("name,y,place\na.png,0,land\nb.png,1,sea\n")
    assert "each of the two classes needs images with either cue" in refused(*given, tmp_path / "own.csv")
    assert "are for --groups FILE" in refused("explore", scenes_store, "--cue-column", "ground")
