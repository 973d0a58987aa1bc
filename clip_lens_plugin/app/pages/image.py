"""How near a picture is to texts, which patches say so, and which words they say it to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from clip_lens_plugin.app.answers import image_answer, nearness_rows
from clip_lens_plugin.app.explored import Spelled
from clip_lens_plugin.app.page import Answer, Page, Question, said
from clip_lens_plugin.app.state import State
from clip_lens_plugin.interactions.interacting import interaction
from clip_lens_plugin.views.drawing.view import View


def _answer(question: Question) -> Iterator[Answer]:
    near, scores = image_answer(question.explored, question.asked, question.state.texts)
    maps = Answer(nearness_rows(picture=near), [scores.view(light=True)], scores, height=1000)
    yield maps
    yield replace(maps, views=[*maps.views, _words(question)], height=1700)


def _words(question: Question) -> View:
    """Patches and words of the first texts, or why there are none."""
    asked = question.asked
    title = f"Words and patches of {asked.photograph.name}"
    try:
        found = interaction(question.explored.model, asked.own, list(question.state.texts))
        return replace(found.view(pictures=[asked.photograph.open()]), title=title)
    except ValueError as error:
        return said(title, str(error))


def _script(state: State, picture: str, spelled: Spelled) -> str:
    return f"""from clip_lens_plugin import interaction
from clip_lens_plugin.maps.patch_text import head_text_scores

picture = {picture}
words = interaction(model, picture, {list(state.texts)!r}).view()
head_text_scores(model, picture, {list(state.texts)!r}).view()"""


IMAGE = Page(
    "Image",
    "How near the picture is to each text, and what every patch adds to that through all heads, a layer or a head: of "
    "one text, of one rather than another, or which text leads at each patch. Then what each word takes from each "
    "patch.",
    _answer,
    _script,
)
