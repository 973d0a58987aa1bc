"""The Why page: the decision of the public function, with notes while it is looked for."""

from __future__ import annotations

import pytest

from clip_lens_plugin import explain
from clip_lens_plugin.app import long_work
from clip_lens_plugin.app.asked import Asked
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.long_work import Working
from clip_lens_plugin.app.page import Answer, Question
from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.app.state import State
from clip_lens_plugin.decisions.decision import Decision


def test_the_decision_comes_after_notes_of_the_runs(
    explored: Explored, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_work, "SAY_EVERY", 0.001)
    texts = ("a circle", "a blue star")
    *notes, answer = PAGES["why"].answer(Question(explored, lambda: asked, State("why", texts=texts), 3))
    assert {type(note) for note in notes} <= {Working}
    assert {note.what for note in notes if isinstance(note, Working)} <= {
        "comparing the texts",
        "decomposing",
        "removing heads",
    }
    assert isinstance(answer, Answer)
    assert isinstance(answer.result, Decision)
    expected = explain(explored.model, explored.photograph(3).open(), *texts, means=explored.sums)
    assert answer.result.gap == pytest.approx(expected.gap, abs=1e-6)
    assert [each.heads for each in answer.result.removed] == [each.heads for each in expected.removed]


def test_two_texts_are_asked_for(explored: Explored, asked: Asked) -> None:
    with pytest.raises(ValueError, match="two lines instead of 1"):
        list(PAGES["why"].answer(Question(explored, lambda: asked, State("why", texts=("a star",)), 3)))
