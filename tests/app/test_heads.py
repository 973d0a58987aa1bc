"""The Heads page: its numbers are those of the public functions, and a part that cannot be made is a sentence."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from clip_lens_plugin import (
    Groups,
    ZeroShotClassifier,
    class_heads,
    group_effects,
    head_roles,
    text_span,
    upstream_tree,
)
from clip_lens_plugin.app.asked import Asked, AskedPictures
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.heads import about_heads
from clip_lens_plugin.app.heads.head_parts import parts_of_head
from clip_lens_plugin.app.long_work import Working
from clip_lens_plugin.app.page import Answer, Question
from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.app.state import State
from clip_lens_plugin.bars import tracked
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.report.in_reach import pictures_in_reach
from clip_lens_plugin.retrieval import extreme_images, nearest_images
from clip_lens_plugin.texts.pool import TextPool
from tests.app.conftest import SEED
from tests.support.two_by_two import warm_and_light

pytestmark = pytest.mark.slow

TEXTS, LAYER, HEAD, ROW = ("a circle", "a star"), 4, 6, 3


def answers(explored: Explored, asked: Asked, row: int | None = ROW, **said: Any) -> list[Answer]:
    state = State("heads", ROW, TEXTS, **said)
    found = PAGES["heads"].answer(Question(explored, lambda: asked, state, row))
    return [each for each in found if not isinstance(each, Working)]


def cells(view: Any) -> dict[tuple[int, int], str]:
    """What stands in the first grid of a view."""
    grid = view.body.split("</table>")[0]
    found = re.findall(r'<td title="layer (\d+), head (\d+): [^"]*"[^>]*>(.*?)</td>', grid)
    return {(int(layer), int(head)): number for layer, head, number in found}


def test_shares_are_restated_in_float64(explored: Explored, asked: Asked) -> None:
    (answer,) = answers(explored, asked)
    rows = explored.data.select(range(len(explored)))
    whole = rows.embedding.double()
    heads = torch.einsum("blhe,be->blh", rows.heads.double(), whole) / whole.square().sum(-1)[:, None, None]
    expected = 100 * heads.mean(0)
    shown = cells(answer.views[0])
    assert len(shown) == expected.numel()
    for (layer, head), number in shown.items():
        assert float(number) == pytest.approx(float(expected[layer, head]), abs=0.051)
    table = answer.result.to_dataframe().query("part == 'head'")
    assert 100 * table["share_mean"].to_numpy() == pytest.approx(expected.flatten().numpy(), abs=1e-3)
    assert "squared length of the embedding" in answer.views[0].body


def test_rows_say_which_heads_add_most(explored: Explored, asked: Asked) -> None:
    texts = explored.model.encode_text(list(TEXTS))
    added = asked.own.towards(texts)[0, ..., 1]
    (answer,) = answers(explored, asked)
    (_, _, addition), first = answer.rows[2], int(added.argmax())
    assert addition.startswith(f"L{first // 8}H{first % 8} {float(added.max()):+.4f}, ")
    last = answers(explored, asked, heads=(f"L{LAYER}H{HEAD}",))[-1]
    assert last.rows[0][2] == f"of which by L{LAYER}H{HEAD}"
    assert float(last.rows[2][2]) == pytest.approx(float(added[LAYER, HEAD]), abs=6e-5)


def test_an_opened_head_comes_bit_by_bit_and_is_that_of_the_public_functions(explored: Explored, asked: Asked) -> None:
    model, data, pool = explored.model, explored.data, TextPool.scenes()
    found = answers(explored, asked, heads=(f"L{LAYER}H{HEAD}",))
    assert [len(each.views) for each in found] == [1, 2, 3, 4, 5, 6]
    spans = text_span(model, data, pool, about_heads.N_TEXTS, [(LAYER, HEAD)])
    assert found[-1].result.to_dataframe().equals(spans[LAYER, HEAD].to_dataframe())
    made = [
        part.made() for part in parts_of_head(Question(explored, lambda: asked, State(), ROW), LAYER, HEAD, nearest=5)
    ]
    assert [view.title for view, _ in made] == [each.title for each in found[-1].views[1:]]
    _, images, attention, feeds, nearest = (result for _, result in made)
    expected = extreme_images(data, spans, about_heads.IMAGES_OF_TEXT, n_texts=about_heads.TEXTS_WITH_IMAGES)
    pd.testing.assert_frame_equal(images.to_dataframe(), expected.to_dataframe(), atol=1e-6)
    assert nearest.to_dataframe().equals(nearest_images(data, ROW, LAYER, HEAD, k=5).to_dataframe())
    tree = upstream_tree(model, explored.photograph(ROW).open(), LAYER, HEAD)
    pd.testing.assert_frame_equal(feeds.to_dataframe(), tree.to_dataframe(), atol=1e-5)
    _, cache = model.run_with_cache(asked.pixels)
    patches = cache["pattern", LAYER][0, HEAD, 0, 1:]
    assert attention.to_dataframe()["value"].to_numpy() == pytest.approx(patches.numpy(), abs=1e-6)
    assert explored.name(ROW) in made[3][0].title
    chance = re.search(r"explain ([\d.]+) % of the head.*?explain ([\d.]+) % on the average", made[0][0].body, re.S)
    assert chance is not None
    assert float(chance[1]) == pytest.approx(100 * spans[LAYER, HEAD].explained_variance[2], abs=0.051)
    assert 0 < float(chance[2]) < float(chance[1])


def test_roles_stand_beside_chance_and_are_kept(
    explored: Explored, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, few, named = replace(explored), {"n_nulls": 19, "n_bootstraps": 5}, []

    def with_few(*given: Any, **more: Any) -> Any:
        named.append(set(more))
        return head_roles(*given, **more, **few)

    monkeypatch.setattr(about_heads, "head_roles", with_few)
    state = State("heads", ROW, TEXTS, by="role", heads=("L5H1",))
    heard = list(PAGES["heads"].answer(Question(fresh, lambda: asked, state, ROW)))
    first, *_, last = (each for each in heard if isinstance(each, Answer))
    assert "come last" in first.views[0].body
    assert cells(first.views[0]) == {}
    expected = head_roles(fresh.model, fresh.data, TextPool.scenes(), **few)
    shown = cells(last.views[0])
    assert len(shown) == len(expected)
    for each in expected:
        assert shown[each.layer, each.head] == f"{each.role}<small>p {each.turned.family_p:.3f}</small>"
    assert "none" in {each.role for each in expected}
    assert len(last.views) == 6
    (again,) = answers(fresh, asked, by="role")
    assert named == [{"text_embeddings"}]
    assert again.result is fresh.heads.roles
    assert again.result.to_dataframe().equals(expected.to_dataframe())


def test_roles_say_how_far_they_are(explored: Explored, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def slowly(*given: Any, **named: Any) -> Any:
        for step in tracked(range(4), "turned pools", visible=False):
            assert step < 2 or go_on.wait(30)
        raise ValueError("no roles of these")

    monkeypatch.setattr(about_heads, "head_roles", slowly)
    fresh = replace(explored)
    found = PAGES["heads"].answer(Question(fresh, lambda: asked, State("heads", ROW, TEXTS, by="role"), ROW))
    while next(found) != Working("turned pools", 0.5):
        pass
    go_on.set()
    with pytest.raises(ValueError, match="no roles of these"):
        list(found)
    assert not fresh.heads.has_roles


def test_what_tells_classes_apart_stands_beside_chance(explored: Explored, asked: Asked) -> None:
    (answer,) = answers(explored, asked, by="cue")
    expected = class_heads(explored.data, classifier=explored.classifier)
    shown = cells(answer.views[0])
    for (layer, head), percent in shown.items():
        assert float(percent) == pytest.approx(100 * float(expected.eta_squared[layer, head]), abs=0.51)
    assert len(shown) == expected.eta_squared.numel()
    assert answer.result.to_dataframe().equals(expected.to_dataframe())
    assert f"{100 * float(expected.chance.mean()):.1f} % of a head on the average" in answer.views[0].body
    assert f"{100 * float(expected.chance_most.max()):.1f} %" in answer.views[0].body


def test_a_cue_of_groups_stands_beside_chance(explored: Explored, asked: Asked) -> None:
    warm, light = zip(*warm_and_light(len(explored), SEED), strict=True)
    classifier = ZeroShotClassifier.from_labels(explored.model, ["blue on navy", "red on white"])
    effects = group_effects(explored.data, classifier, Groups.of(warm, light, cue_names=["dark", "light"]))
    (answer,) = answers(replace(explored, effects=effects), asked, by="cue")
    shown, cue = cells(answer.views[0]), effects.heads("cue")
    assert len(shown) == cue.size
    for at, cell in shown.items():
        number = re.match(r"[+-]?[0-9.]+", cell).group()  # type: ignore[union-attr]
        assert float(number) == pytest.approx(cue[at], abs=0.51 * 10 ** -len(number.partition(".")[2]))
    p = effects.heads_by_chance("family_p")
    assert re.findall(r"p (\d\.\d+)<", answer.views[0].body) == [f"{each:.3f}" for each in p.flatten()]
    assert f"below 0.05 for {(p < 0.05).sum()} of {p.size} heads" in answer.views[0].body
    assert answer.result is effects


def test_without_classes_the_head_is_still_shown(explored: Explored, asked: Asked) -> None:
    without = replace(explored, classifier=None)
    with pytest.raises(ValueError, match="have no classes"):
        answers(without, asked, by="cue")
    last = answers(without, asked, by="cue", heads=("L5H1",))[-1]
    assert len(last.views) == 6
    assert "have no classes" in last.views[0].body


def test_parts_that_cannot_be_made_are_sentences(explored: Explored, asked: Asked) -> None:
    pictures = [explored.photograph(ROW).open()] * 2
    for data, sentence in (
        (explored.model.decompose(pictures), "found no text for layer 5, head 1"),
        (explored.model.decompose(pictures[:1]), "at least two images"),
    ):
        reach = pictures_in_reach(data)
        assert reach is not None
        few = replace(explored, data=data, pictures=reach, classifier=None)
        last = answers(few, asked, row=0, heads=("L5H1",))[-1]
        assert sentence in last.views[1].body
        assert len(last.views) == 6
        assert len(cells(last.views[0])) == 48
        assert "cl-photo" in last.views[3].body
        assert "cl-tree" in last.views[4].body


def test_an_uploaded_picture_and_a_wrong_head(explored: Explored, asked: Asked) -> None:
    picture = Photograph(explored.photograph(ROW).open(), "mine.png")
    own = AskedPictures(explored.model).of(picture)
    *_, alike = parts_of_head(Question(explored, lambda: own, State(), None), LAYER, HEAD, nearest=4)
    view, found = alike.made()
    assert found.to_dataframe()["row"][0] == ROW
    expected = nearest_images(explored.data, picture.open(), LAYER, HEAD, k=4)
    pd.testing.assert_frame_equal(found.to_dataframe(), expected.to_dataframe(), atol=1e-5)
    assert "Nearest to mine.png" in view.title
    with pytest.raises(IndexError, match="layer 9"):
        answers(explored, asked, heads=("L9H1",))


def test_choices_give_back_a_link(explored: Explored) -> None:
    pytest.importorskip("gradio")
    from clip_lens_plugin.app.choices import CHOICES

    for state in (State("heads", by="role", heads=("L5H1",)), State("heads")):
        stated: dict[str, Any] = {}
        for name in PAGES["heads"].choices:
            stated |= CHOICES[name].stated(CHOICES[name].shown(state, explored))
        assert State("heads", **stated) == state
    assert CHOICES["opened"].shown(State("heads", heads=("L9H1",)), explored) == ""
