"""Pictures that chosen heads write alike, or that show a text to them."""

from __future__ import annotations

from collections.abc import Iterator

from clip_lens_plugin.app.answers import Rows
from clip_lens_plugin.app.explored import Spelled
from clip_lens_plugin.app.long_work import Working, awaited
from clip_lens_plugin.app.page import Answer, Page, Question, said
from clip_lens_plugin.app.state import State, heads_of
from clip_lens_plugin.retrieval import nearest_images, nearest_to_text
from clip_lens_plugin.retrieval.found import NearestImages

NEAREST = 12


def _answer(question: Question) -> Iterator[Answer | Working]:
    yield _shown(question, (yield from awaited(lambda: _found(question), "searching")))


def _found(question: Question) -> NearestImages:
    state, explored = question.state, question.explored
    heads = heads_of(state)
    if state.like == "text":
        text = state.texts[0]
        embedding = explored.embedded(state.texts)[:1]
        found = nearest_to_text(explored.data, text, NEAREST, heads=heads, text_embeddings=embedding)
    else:
        query = question.own if question.row is None else question.row
        found = nearest_images(explored.data, query, k=NEAREST, heads=heads)
        found.query = question.asked.photograph if question.row is None else None
    found.pictures = explored.pictures
    return found


def _shown(question: Question, found: NearestImages) -> Answer:
    measure = "score" if found.text is not None else "similarity"
    rows: Rows = [("place", "number", "picture", measure)]
    for place, row, value in zip(found["place"], found["row"], found[measure], strict=True):
        rows.append((str(place), str(row), question.explored.name(row), f"{value:+.4f}"))
    try:
        view = found.view()
    except ValueError as error:
        view = said("The names stand in the table", str(error))
    return Answer(rows, [view], found, height=600)


def _script(state: State, picture: str, spelled: Spelled) -> str:
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
