"""The page of what is switched off: direct at once, then the run, then accuracy; means are taken with notes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clip_lens_plugin.app import long_work
from clip_lens_plugin.app.asked import Asked
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.long_work import Working
from clip_lens_plugin.app.page import Answer, Question
from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.app.state import State


def test_direct_comes_first_and_what_takes_long_is_said(
    explored: Explored, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_work, "SAY_EVERY", 0.001)
    state = State("off", 3, ("a circle", "a star"), ("L5", "L4H2"))
    heard = list(PAGES["off"].answer(Question(replace(explored), lambda: asked, state, 3)))
    direct, total, accuracy = (each for each in heard if isinstance(each, Answer))
    assert [len(each.rows[0]) for each in (direct, total, accuracy)] == [5, 7, 7]
    assert [len(each.views) for each in (direct, total, accuracy)] == [1, 1, 2]
    assert "averaging" in {each.what for each in heard if isinstance(each, Working)}


def test_nothing_to_switch_off_is_said(explored: Explored, asked: Asked) -> None:
    with pytest.raises(ValueError, match="Choose what is switched off"):
        list(PAGES["off"].answer(Question(explored, lambda: asked, State("off", 3, ("a star",)), 3)))
