"""Pictures that chosen heads write alike, or that show a text to them."""

from __future__ import annotations

from collections.abc import Iterator

from clip_lens_plugin.app.answers import Rows
from clip_lens_plugin.app.long_work import Done, Working, worked
from clip_lens_plugin.app.pages.page import Answer, Page, Question
from clip_lens_plugin.app.state import State, heads_of
from clip_lens_plugin.retrieval import nearest_images, nearest_to_text
from clip_lens_plugin.retrieval.found import NearestImages

NEAREST = 12


def _answer(question: Question) -> Iterator[Answer | Working]:
    for now in worked(lambda: _found(question), "Searching"):
        if isinstance(now, Done):
            yield _shown(question, now.found)
        else:
            yield now


def _found(question: Question) -> NearestImages:
    state, explored = question.state, question.explored
    heads = heads_of(state)
    if state.like == "text":
        text = state.texts[0]
        embedding = explored.embedded(state.texts)[:1]
        found = nearest_to_text(explored.data, text, NEAREST, heads=heads, text_embeddings=embedding)
    else:
        query = question.asked.own if question.row is None else question.row
        found = nearest_images(explored.data, query, k=NEAREST, heads=heads)
        found.query = question.asked.photograph if question.row is None else None
    found.pictures = explored.pictures
    return found


def _shown(question: Question, found: NearestImages) -> Answer:
    told = "score" if found.text is not None else "similarity"
    rows: Rows = [("place", "number", "picture", told)]
    for place, row, value in zip(found["place"], found["row"], found[told], strict=True):
        rows.append((str(place), str(row), question.explored.name(row), f"{value:+.4f}"))
    return Answer(rows, [found.view()], found, height=600)


def _script(state: State, picture: str) -> str:
    heads = heads_of(state)
    if state.like == "text":
        return f"""from clip_lens_plugin.retrieval import nearest_to_text

nearest_to_text(data, {state.texts[0]!r}, {NEAREST}, heads={heads!r}).view()"""
    return f"""from clip_lens_plugin.retrieval import nearest_images

picture = {picture}
nearest_images(data, picture, k={NEAREST}, heads={heads!r}).view()"""


SEARCH = Page(
    "Search",
    "The pictures that are most like the picture, or the first text, in what the chosen heads write: the same texture "
    "for one head, the same place for another. Which head writes what stands on the page Heads, where heads are "
    "coloured by role.",
    _answer,
    _script,
    ("heads", "like"),
)
