"""Pictures that a head writes alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clip_lens_plugin.app.answers import Rows
from clip_lens_plugin.app.pages.page import Answer, Page, Question
from clip_lens_plugin.app.state import State, heads_of
from clip_lens_plugin.retrieval import nearest_images

NEAREST = 12


def _answer(question: Question) -> Iterator[Answer]:
    ((layer, head),) = heads_of(question.state)
    query: Any = question.asked.photograph.source if question.row is None else question.row
    found = nearest_images(question.explored.data, query, layer, head, k=NEAREST)
    rows: Rows = [("place", "number", "picture", "similarity")]
    for place, row, similarity in zip(found["place"], found["row"], found["similarity"], strict=True):
        rows.append((str(place), str(row), question.explored.name(row), f"{similarity:+.3f}"))
    yield Answer(rows, [found.view()], found, height=600)


def _script(state: State, picture: str) -> str:
    ((layer, head),) = heads_of(state)
    return f"""from clip_lens_plugin.retrieval import nearest_images

picture = {picture}
nearest_images(data, picture, {layer}, {head}, k={NEAREST}).view()"""


SEARCH = Page(
    "Search",
    "The pictures to which one head writes most alike: the same texture for one head, the same place for another.",
    _answer,
    _script,
    ("head",),
)
