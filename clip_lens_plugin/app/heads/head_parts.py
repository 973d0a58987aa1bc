"""The parts of an answer about heads: the grid of all, and what one head does; each is worked out when it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from clip_lens_plugin.app.heads.about_heads import AboutHeads
from clip_lens_plugin.app.page import Question
from clip_lens_plugin.app.state import By
from clip_lens_plugin.groups.effects import GroupEffects
from clip_lens_plugin.higher_order.tree import upstream_tree
from clip_lens_plugin.retrieval import nearest_images
from clip_lens_plugin.saliency.result import SaliencyMap
from clip_lens_plugin.shown import Shown
from clip_lens_plugin.views.drawing.view import View
from clip_lens_plugin.views.heads.groups import CUES, cue_grid_view
from clip_lens_plugin.views.heads.head_answers import head_attention_view, texts_beside_chance_view
from clip_lens_plugin.views.heads.head_grids import class_grid_view, role_grid_view, share_grid_view


@dataclass(frozen=True)
class Part:
    """A view, and the result that it is of.

    Attributes:
        title: of the view.
        doing: what is done meanwhile.
        made: makes it.
    """

    title: str
    doing: str
    made: Callable[[], tuple[View, Shown]]


def grid_of(heads: AboutHeads, by: By) -> Part:
    """All heads, by their share of the embedding, their role, or a cue: that of groups, or what classes explain."""

    def shares() -> tuple[View, Shown]:
        return share_grid_view(heads.shares, len(heads.data)), heads.shares

    def roles() -> tuple[View, Shown]:
        return role_grid_view(heads.roles), heads.roles

    def classes() -> tuple[View, Shown]:
        return class_grid_view(heads.classes), heads.classes

    def cue(effects: GroupEffects) -> tuple[View, Shown]:
        return cue_grid_view(effects), effects

    if by == "cue" and heads.effects is not None:
        return Part(CUES, "comparing groups", partial(cue, heads.effects))
    return {
        "share": Part("What each head adds to the embedding", "measuring shares", shares),
        "role": Part("Roles of heads", "looking for roles", roles),
        "cue": Part("What tells the classes apart", "comparing classes", classes),
    }[by]


def parts_of_head(question: Question, layer: int, head: int, *, nearest: int) -> list[Part]:
    """What a head does, in all pictures and in the one that was asked about.

    Args:
        nearest: pictures that are found.
    """
    explored, row = question.explored, question.row
    heads, name = explored.heads, f"layer {layer}, head {head}"
    pictures = explored.pictures if explored.in_reach(1) else None

    def texts() -> tuple[View, Shown]:
        found = heads.described(layer, head)
        span = found.spans[layer, head]
        return texts_beside_chance_view(span, found.beside_chance, len(explored.pool.pool)), span

    def images() -> tuple[View, Shown]:
        found = heads.images(layer, head)
        return replace(found.view(images=pictures), title=f"Pictures of the texts of {name}"), found

    def attention() -> tuple[View, Shown]:
        cfg, asked = explored.model.cfg, question.asked
        weights = asked.own.attention(layer, head)[0]
        before = dict(zip(cfg.prefix_names, weights[: cfg.n_prefix_tokens].tolist(), strict=True))
        patches = weights[cfg.n_prefix_tokens :].unflatten(-1, asked.grid_size)[None]
        height, width = cfg.image_size
        found = SaliencyMap(patches, (), "attention", f"Attention of {name}", (width, height), pictured=asked.pictured)
        return head_attention_view(found, before), found

    def feeds() -> tuple[View, Shown]:
        asked = question.asked
        found = upstream_tree(explored.model, asked.pixels, layer, head)
        found = replace(found, name=asked.photograph.name)
        return found.view(), found

    def alike() -> tuple[View, Shown]:
        query: Any = question.own if row is None else row
        found = nearest_images(explored.data, query, layer, head, k=nearest)
        if row is None:
            found.query = question.asked.photograph
        return found.view(images=pictures), found

    return [
        Part(f"Texts of {name}", "describing the head by texts", texts),
        Part(f"Pictures of the texts of {name}", "searching the pictures of its texts", images),
        Part(f"Attention of {name}", "looking where it attends", attention),
        Part(f"What feeds {name}", "looking what feeds it", feeds),
        Part(f"Nearest by {name}", "searching the nearest pictures", alike),
    ]
