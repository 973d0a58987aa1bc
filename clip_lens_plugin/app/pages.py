"""The explorer's pages: what each is asked, and its answer as a table, views and a result that is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from clip_lens_plugin.app.answers import Rows, image_answer, nearness, nearness_rows, switched_off
from clip_lens_plugin.app.asked import Asked
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.state import State, parts_of
from clip_lens_plugin.decisions.explaining import explain
from clip_lens_plugin.retrieval import nearest_images
from clip_lens_plugin.shown import Shown
from clip_lens_plugin.views.drawing.view import View

NEAREST = 12


@dataclass(frozen=True)
class Answer:
    """What a page shows.

    Attributes:
        rows: of a table of numbers; the first is its header.
        views: in a frame.
        result: is saved as a page, a figure or a table.
        height: of the frame, in pixels.
    """

    rows: Rows
    views: list[View]
    result: Shown
    height: int = 900


@dataclass(frozen=True)
class Question:
    """A picture, and what a page is asked of it.

    Attributes:
        explored: the model and the data.
        asked: the picture, run.
        state: texts, parts and heads.
        row: of the data; None for a picture that was uploaded.
    """

    explored: Explored
    asked: Asked
    state: State
    row: int | None


def _image(question: Question) -> Iterator[Answer]:
    near, scores = image_answer(question.explored, question.asked, question.state.texts)
    yield Answer(nearness_rows(picture=near), [scores.view(light=True)], scores)


def _why(question: Question) -> Iterator[Answer]:
    texts = question.state.texts
    if len(texts) != 2:
        raise ValueError(f"Why asks about two texts, the answer and another: type two lines instead of {len(texts)}.")
    explored = question.explored
    decision = explain(explored.model, question.asked.photograph.source, *texts, means=explored.sums)
    decision = replace(decision, pictured=question.asked.pictured)
    near = nearness(explored.model, texts, question.asked.cosine(explored.embedded(texts)))
    yield Answer(nearness_rows(picture=near), [decision.view()], decision, height=1600)


def _off(question: Question) -> Iterator[Answer]:
    state = question.state
    maps, name = None, f"{question.asked.photograph.name}, through the heads that are left"
    for found in switched_off(question.explored, question.asked, state.texts, state.off, state.ablation):
        maps = found.remaining.view(name=name, light=True) if maps is None else maps
        views = [maps] if found.accuracy is None else [maps, found.accuracy.view()]
        rows = nearness_rows(intact=found.intact, direct=found.direct, total=found.total)
        yield Answer(rows, views, found.remaining, height=1300)


def _search(question: Question) -> Iterator[Answer]:
    head = question.state.head
    if not head:
        raise ValueError("Choose the head that pictures are compared by.")
    ((layer, number),) = parts_of((head,))[0]
    query: Any = question.asked.photograph.source if question.row is None else question.row
    found = nearest_images(question.explored.data, query, layer, number, k=NEAREST)
    rows: Rows = [("place", "number", "picture", "similarity")]
    for place, row, similarity in zip(found["place"], found["row"], found["similarity"], strict=True):
        rows.append((str(place), str(row), question.explored.name(row), f"{similarity:+.3f}"))
    yield Answer(rows, [found.view()], found, height=600)


@dataclass(frozen=True)
class Page:
    """A page: its title, what it is for, and who answers: at once what is known at once, then more."""

    title: str
    about: str
    answer: Callable[[Question], Iterator[Answer]]


PAGES = {
    "image": Page(
        "Image",
        "How near the picture is to each text, and what every patch adds to that through all heads, a layer or a head.",
        _image,
    ),
    "why": Page(
        "Why",
        "Two texts, the answer and another: which patches, words and heads decide, and which heads have to be removed "
        "until the answer flips.",
        _why,
    ),
    "off": Page(
        "Switch off",
        "Replace heads, layers or MLPs: in the sum (direct), and in a run of the model, where later layers react "
        "(total). Accuracy is that of all pictures, in the sum.",
        _off,
    ),
    "search": Page(
        "Search",
        "The pictures to which one head writes most alike: the same texture for one head, the same place for another.",
        _search,
    ),
}
