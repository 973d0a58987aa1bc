"""What changes when parts of the model are switched off."""

from __future__ import annotations

from collections.abc import Iterator

from clip_lens_plugin.app.answers import nearness_rows, switched_off
from clip_lens_plugin.app.explored import Spelled
from clip_lens_plugin.app.long_work import Working, awaited
from clip_lens_plugin.app.page import Answer, Page, Question
from clip_lens_plugin.app.state import State, parts_of


def _answer(question: Question) -> Iterator[Answer | Working]:
    state = question.state
    name, drawn, maps = question.asked.photograph.name, None, None
    steps = switched_off(question.explored, question.asked, state.texts, state.off, state.ablation)
    while (found := (yield from awaited(lambda: next(steps, None), "running without them"))) is not None:
        if maps is None or drawn is not found.remaining:
            drawn, said = found.remaining, "in the run" if found.in_run else "as they are in the whole model"
            maps = drawn.view(name=f"{name}, through the heads that are left, {said}", light=True)
        views = [maps] if found.accuracy is None else [maps, found.accuracy.view()]
        rows = nearness_rows(intact=found.intact, direct=found.direct, total=found.total)
        yield Answer(rows, views, found.remaining, height=1300)


def _script(state: State, picture: str, spelled: Spelled) -> str:
    heads, layers, mlps = (sorted(each) for each in parts_of(state.off))
    sets = [f"Components.of_attention(model, {layers})"] if layers else []
    sets += [f"Components.of_heads(model, {heads})"] if heads else []
    sets += [f"Components.of_mlps(model, {mlps})"] if mlps else []
    return f"""from clip_lens_plugin import mean_ablation_curve
from clip_lens_plugin.ablation import Components

off = {" | ".join(sets)}
mean_ablation_curve(data, components=[off], ablation={state.ablation!r})"""


OFF = Page(
    "Switch off",
    "Replace heads, layers or MLPs: in the sum (direct), and in a run of the model, where later layers react "
    "(total). Accuracy is that of all pictures, in the sum.",
    _answer,
    _script,
    ("off", "ablation"),
)
