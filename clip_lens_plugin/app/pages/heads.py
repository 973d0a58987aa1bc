"""Every head on a grid, and what one head does: its texts, images, attention, what feeds it, and its neighbours."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.app.answers import Rows
from clip_lens_plugin.app.explored import Spelled
from clip_lens_plugin.app.heads.about_heads import IMAGES_OF_TEXT, N_TEXTS, TEXTS_WITH_IMAGES
from clip_lens_plugin.app.heads.head_parts import Part, grid_of, parts_of_head
from clip_lens_plugin.app.long_work import Working, awaited
from clip_lens_plugin.app.page import Answer, Page, Question, said
from clip_lens_plugin.app.pages.search import NEAREST
from clip_lens_plugin.app.state import State, heads_of
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.completeness import CompletenessError
from clip_lens_plugin.shown import Shown
from clip_lens_plugin.views.drawing.view import View

HEIGHTS = 900, 1600
"""Of the frame, in pixels: the grid alone, and with a head under it."""

MOST_NAMED = 3
"""Heads that are named beside each text."""


def _answer(question: Question) -> Iterator[Answer | Working]:
    explored, state = question.explored, question.state
    head = explored.model.cfg.checked_head(*heads_of(state)[0]) if state.heads else None
    rows = _rows(question, head)
    parts = [grid_of(explored.heads, state.by)]
    order = [0]
    views: dict[int, View] = {}
    results: dict[int, Shown] = {}
    reasons: list[str] = []
    if head is not None:
        parts += parts_of_head(question, *head, nearest=NEAREST)
        order = [*order, *range(1, len(parts))]
        if state.by == "role" and not explored.heads.has_roles:
            order = [*order[1:], 0]
            views[0] = said(parts[0].title, "The roles of all heads take long: they come last.")
    for at in order:
        found = yield from _made(parts[at])
        if isinstance(found, str):
            views[at] = said(parts[at].title, found)
            reasons.append(found)
        else:
            views[at], results[at] = found
        if results:
            # The head's own texts are more than the grid, and the grid is more than what follows them.
            best = min(results, key=lambda place: (place != 1, place))
            yield Answer(rows, [views[place] for place in sorted(views)], results[best], HEIGHTS[head is not None])
    if not results:
        raise ValueError(reasons[0])


def _made(part: Part) -> Generator[Working, None, tuple[View, Shown] | str]:
    """A part, or why there is none."""
    try:
        return (yield from awaited(part.made, part.doing))
    except (ValueError, IndexError, CompletenessError) as error:
        return str(error)


def _rows(question: Question, head: tuple[int, int] | None) -> Rows:
    """One row per text: its cosine with the picture, and what the opened head adds, or which heads add most."""
    own, texts = question.own, question.state.texts
    embeddings = question.explored.embedded(texts)
    cosine = equations.towards(own.embedding.to(embeddings), embeddings)[0]
    added = own.towards(embeddings)[0]
    rows: Rows = [("text", "cosine", "most of it by" if head is None else "of which by L{}H{}".format(*head))]
    for t, text in enumerate(texts):
        addition = _most(added[..., t]) if head is None else f"{float(added[*head, t]):+.4f}"
        rows.append((text, f"{float(cosine[t]):+.4f}", addition))
    return rows


def _most(added: Float[Tensor, "l h"]) -> str:
    """The heads that add most, and how much."""
    n_heads = added.shape[1]
    found = added.flatten().topk(min(MOST_NAMED, added.numel())).indices.tolist()
    return ", ".join(f"L{at // n_heads}H{at % n_heads} {float(added.flatten()[at]):+.4f}" for at in found)


GRIDS = {
    "share": "data.shares().view()",
    "role": "head_roles(model, data, pool, progress=True).view()",
    "cue": "class_heads(data, classifier=classifier_of_data(data)).view()",
}
IMPORTS = {
    "role": "from clip_lens_plugin import head_roles\n",
    "cue": "from clip_lens_plugin import class_heads\n"
    "from clip_lens_plugin.zero_shot.by_names import classifier_of_data\n",
}
POOL = "from clip_lens_plugin.texts.fitting import pool_for\n", "pool, _ = pool_for(model.cfg.model_name)\n"


def _script(state: State, picture: str, spelled: Spelled) -> str:
    grid, imports = GRIDS[state.by], IMPORTS.get(state.by, "")
    if state.by == "cue" and spelled.effects:
        grid, imports = "effects.view()", f"{spelled.effects}\n"
    if not state.heads:
        needed = POOL if state.by == "role" else ("", "")
        return f"{imports}{needed[0]}\n{needed[1]}{grid}"
    ((layer, head),) = heads_of(state)
    return f"""{imports}from clip_lens_plugin import text_span, upstream_tree
from clip_lens_plugin.retrieval import extreme_images, nearest_images
{POOL[0]}
picture = {picture}
{POOL[1]}grid = {grid}
spans = text_span(model, data, pool, {N_TEXTS}, [({layer}, {head})])
extreme = extreme_images(data, spans, {IMAGES_OF_TEXT}, n_texts={TEXTS_WITH_IMAGES}).view()
attention = model.decompose(picture, tokens=True).attention({layer}, {head})
feeds = upstream_tree(model, picture, {layer}, {head}).view()
nearest = nearest_images(data, picture, {layer}, {head}, k={NEAREST}).view()
spans.view()"""


HEADS = Page(
    "Heads",
    "Every head of the model, coloured by its share of the embedding, by its role, or by a cue: what it adds for the "
    "cue of groups that were given, or else how much of it the classes explain. A head that is opened shows its texts, "
    "their pictures, where it attends in the chosen picture, what feeds it, and the pictures to which it writes most "
    "alike.",
    _answer,
    _script,
    ("by", "opened"),
)
