"""Data whose pictures are out of reach: pages that need none answer, others say what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from clip_lens_plugin.app.asked import Asked, AskedPictures
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.page import Answer, Question
from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.app.state import State
from clip_lens_plugin.report.pictures import PixelsInMemory
from clip_lens_plugin.retrieval import nearest_images

TEXTS, ROW = ("a circle", "a star"), 3


@pytest.fixture(scope="module")
def names_alone(explored: Explored) -> Explored:
    return replace(explored, pictures=PixelsInMemory(torch.empty(0, 3, *explored.model.cfg.image_size), None))


def answers(names_alone: Explored, state: State) -> list[Answer]:
    pictures = AskedPictures(names_alone.model)
    look: Callable[[], Asked] = lambda: pictures.of(names_alone.photograph(ROW))  # noqa: E731
    found = PAGES[state.tab].answer(Question(names_alone, look, state, ROW))
    return [each for each in found if isinstance(each, Answer)]


def test_rows_are_searched_by_a_row_and_by_a_text(names_alone: Explored) -> None:
    (found,) = answers(names_alone, State("search", ROW, TEXTS, heads=("L5H3",)))
    expected = nearest_images(names_alone.data, ROW, 5, 3, k=12)
    assert [row[1] for row in found.rows[1:]] == [str(row) for row in expected["row"]]
    (by_text,) = answers(names_alone, State("search", ROW, TEXTS, heads=("L5H3",), like="text"))
    assert by_text.rows[0] == ("place", "number", "picture", "score")


def test_heads_are_described_and_what_needs_the_picture_is_said(names_alone: Explored, explored: Explored) -> None:
    *_, last = answers(names_alone, State("heads", ROW, TEXTS, heads=("L5H3",)))
    own = explored.data.select([ROW]).normalized()
    embeddings = explored.model.encode_text(list(TEXTS))
    for row, cosine in zip(last.rows[1:], own.embedding[0] @ embeddings.T, strict=True):
        assert float(row[1]) == pytest.approx(float(cosine), abs=1e-4)
    titles = [view.title for view in last.views]
    assert titles[1] == "Texts of layer 5, head 3"
    assert "is not in reach" not in last.views[1].body
    for what in ("Attention of", "What feeds"):
        (view,) = (view for view in last.views if view.title.startswith(what))
        assert "is not in reach: give the data set with --images" in view.body


@pytest.mark.parametrize("tab", ["image", "why", "off", "neurons"])
def test_pages_on_the_picture_say_what_is_missing(names_alone: Explored, tab: str) -> None:
    with pytest.raises(ValueError, match="is not in reach: give the data set with --images"):
        answers(names_alone, State(tab, ROW, TEXTS, off=("L5",), neuron="L3"))
