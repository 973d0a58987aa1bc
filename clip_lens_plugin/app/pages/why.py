"""Why one text rather than another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from clip_lens_plugin.app.answers import nearness, nearness_rows
from clip_lens_plugin.app.explored import Spelled
from clip_lens_plugin.app.long_work import Working, awaited
from clip_lens_plugin.app.page import Answer, Page, Question
from clip_lens_plugin.app.state import State
from clip_lens_plugin.decisions.explaining import explain


def _answer(question: Question) -> Iterator[Answer | Working]:
    texts = question.state.texts
    if len(texts) != 2:
        raise ValueError(f"Why asks about two texts, the answer and another: type two lines instead of {len(texts)}.")
    explored = question.explored
    near = nearness(explored.model, texts, question.asked.cosine(explored.embedded(texts)))
    picture = question.asked.photograph.source
    decision = yield from awaited(
        lambda: explain(explored.model, picture, *texts, means=explored.sums), "comparing the texts"
    )
    decision = replace(decision, pictured=question.asked.pictured)
    yield Answer(nearness_rows(picture=near), [decision.view()], decision, height=1600)


def _script(state: State, picture: str, spelled: Spelled) -> str:
    a, b = (*state.texts, "", "")[:2]
    return f"""from clip_lens_plugin import explain

picture = {picture}
explain(model, picture, {a!r}, {b!r}, means=data).view()"""


WHY = Page(
    "Why",
    "Two texts, the answer and another: which patches, words and heads decide, and which heads have to be removed "
    "until the answer flips.",
    _answer,
    _script,
)
