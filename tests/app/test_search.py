"""The page on search: by several heads, like a picture of the data, like an uploaded picture, and like a text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clip_lens_plugin import ContributionStore
from clip_lens_plugin.app.asked import Asked, AskedPictures
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.long_work import Working
from clip_lens_plugin.app.page import Answer, Question
from clip_lens_plugin.app.pages.search import NEAREST, SEARCH
from clip_lens_plugin.app.state import State
from clip_lens_plugin.collection import rows
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.retrieval import nearest_images, nearest_to_text

HEADS = ("L5H3", "L4H2")
PAIRS = [(5, 3), (4, 2)]


def answer(question: Question) -> Answer:
    found = [each for each in SEARCH.answer(question) if not isinstance(each, Working)]
    return found[0]


def test_it_answers_of_a_row_as_the_public_function(explored: Explored, asked: Asked) -> None:
    state = State("search", 3, ("a star",), heads=HEADS)
    found = answer(Question(explored, lambda: asked, state, 3))
    expected: Any = nearest_images(explored.data, 3, k=NEAREST, heads=PAIRS)
    rows = [(str(row), name) for row, name in zip(expected["row"], expected["name"], strict=True)]
    assert [(row[1], row[2]) for row in found.rows[1:]] == rows
    assert found.views[0].title == f"Nearest to {explored.name(3)} by layer 5, head 3; layer 4, head 2"
    assert found.views[0].body.count("data:image") == NEAREST + 1


def test_it_answers_of_an_uploaded_picture_without_a_run(explored: Explored, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = explored.photograph(7).open()
    own = AskedPictures(explored.model).of(Photograph(picture, "uploaded picture"))
    monkeypatch.setattr("clip_lens_plugin.retrieval.nearest.decompose_images", lambda *_: pytest.fail("a second run"))
    found = answer(Question(explored, lambda: own, State("search", 0, ("a star",), heads=HEADS), None))
    assert found.rows[1][1:] == ("7", explored.name(7), "+1.0000")
    assert "uploaded picture" in found.views[0].title


def test_it_answers_of_a_text_as_the_public_function(explored: Explored, asked: Asked) -> None:
    evil = "<b>a star</b>"
    found = answer(Question(explored, lambda: asked, State("search", 3, (evil, "x"), heads=HEADS, like="text"), 3))
    expected: Any = nearest_to_text(explored.data, evil, NEAREST, heads=PAIRS)
    assert [row[1] for row in found.rows[1:]] == [str(row) for row in expected["row"]]
    assert found.rows[0][3] == "score"
    assert "<b>" not in found.views[0].body
    assert "&lt;b&gt;a star" in found.views[0].body


def test_no_head_is_refused(explored: Explored, asked: Asked) -> None:
    with pytest.raises(ValueError, match="Choose a head"):
        answer(Question(explored, lambda: asked, State("search", 3, ("a star",)), 3))


def test_what_is_saved_shows_the_pictures_that_the_explorer_knows(
    explored: Explored, asked: Asked, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = answer(Question(explored, lambda: asked, State("search", 3, ("a star",), heads=HEADS), 3)).result
    monkeypatch.setattr("clip_lens_plugin.views.results.pictures_in_reach", lambda _: pytest.fail("looked for again"))
    assert result.save(tmp_path / "found.html").read_text().count("data:image") == NEAREST + 1


def test_what_every_search_reads_is_read_ahead(explored: Explored, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(explored.data, ContributionStore)
    store = ContributionStore.open(explored.data.folder, explored.model)
    own = rows.read_rows
    read: list[str] = []

    def noted(group: Any, name: str, positions: Any, *at: Any) -> Any:
        read.extend([name] * bool(len(positions)))
        return own(group, name, positions, *at)

    monkeypatch.setattr(rows, "read_rows", noted)
    replace(explored, data=store).read_ahead()
    assert set(read) == {"embedding", "coordinates"}
    read.clear()
    nearest_to_text(store, "a star", heads=[(5, 3)])
    assert set(read) == {"coordinates"}
