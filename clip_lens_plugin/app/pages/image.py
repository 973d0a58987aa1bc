"""How near a picture is to texts, and which patches say so."""

from __future__ import annotations

from collections.abc import Iterator

from clip_lens_plugin.app.answers import image_answer, nearness_rows
from clip_lens_plugin.app.pages.page import Answer, Page, Question
from clip_lens_plugin.app.state import State


def _answer(question: Question) -> Iterator[Answer]:
    near, scores = image_answer(question.explored, question.asked, question.state.texts)
    yield Answer(nearness_rows(picture=near), [scores.view(light=True)], scores, height=1000)


def _script(state: State, picture: str) -> str:
    return f"""from clip_lens_plugin.maps.patch_text import head_text_scores

picture = {picture}
head_text_scores(model, picture, {list(state.texts)!r}).view()"""


IMAGE = Page(
    "Image",
    "How near the picture is to each text, and what every patch adds to that through all heads, a layer or a head: of "
    "one text, of one rather than another, or which text leads at each patch.",
    _answer,
    _script,
)
