"""The Image page: maps at once, then words, or why there are none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clip_lens_plugin.app.asked import Asked
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.page import Answer, Question, said
from clip_lens_plugin.app.pages import PAGES, image
from clip_lens_plugin.app.state import State

TEXTS = ("a circle", "a blue star")


def answers(explored: Explored, asked: Asked) -> list[Answer]:
    found = PAGES["image"].answer(Question(explored, lambda: asked, State(texts=TEXTS), 3))
    return [each for each in found if isinstance(each, Answer)]


def test_words_come_after_the_maps(explored: Explored, asked: Asked) -> None:
    maps, both = answers(explored, asked)
    assert [view.title for view in maps.views] == [f"Patch-text maps of {explored.name(3)}"]
    assert both.views[0] is maps.views[0]
    assert both.views[1].title == f"Words and patches of {explored.name(3)}"
    for word in ("circle", "blue", "star"):
        assert f'"{word}"' in both.views[1].body.unescape()
    assert (maps.result, maps.rows) == (both.result, both.rows)


def test_why_there_are_no_words(explored: Explored, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise ValueError("This text tower has a <feature> that is not supported.")

    monkeypatch.setattr(image, "interaction", refuse)
    maps, both = answers(explored, asked)
    assert both.views[0] is maps.views[0]
    assert "a &lt;feature&gt; that" in both.views[1].body


def test_a_sentence_is_a_view(tmp_path) -> None:
    view = said("Nothing", "There is <nothing> to see.")
    assert replace(view, title="x").save(tmp_path / "x.png").stat().st_size > 1000
    assert "There is &lt;nothing&gt; to see." in view.save(tmp_path / "x.html").read_text()
