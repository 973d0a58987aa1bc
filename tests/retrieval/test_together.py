"""Search by several heads, and by a text, beside plain float64 sums of full contributions, and what chance finds."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from clip_lens_plugin import HookedCLIP, collect
from clip_lens_plugin.ablation.data import means_of
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.data_views import SomeRows
from clip_lens_plugin.retrieval import extreme_images, nearest_images, nearest_to_text
from clip_lens_plugin.scenes import ScenesDataset, draw, sample_scenes
from tests.conftest import random_images

pytestmark = pytest.mark.slow

FEW, MORE_THAN_WIDE = [(2, 1), (0, 3)], [(l, h) for l in range(3) for h in range(4)]
COLOUR_HEADS = [(5, 0), (3, 7)]


@pytest.fixture
def held(model) -> Contributions:
    return model.decompose(random_images(model, 30))


def summed(held: Contributions, heads: list[tuple[int, int]]) -> torch.Tensor:
    """What the heads write together, in full, in cosine units [b, e]."""
    written = sum(held.heads[:, layer, head].double() for layer, head in heads)
    return written / held.embedding.double().norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("heads", [FEW, MORE_THAN_WIDE])
@pytest.mark.parametrize("remove_mean", [True, False])
def test_similarity_is_the_cosine_of_the_sums_of_contributions(model, held, heads, remove_mean):
    query = model.decompose(random_images(model, 1, seed=5))
    c, q = summed(held, heads), summed(query, heads)
    if remove_mean:
        c, q = c - c.mean(0), q - c.mean(0)
    values, rows = torch.nn.functional.cosine_similarity(c, q).sort(descending=True)
    found = nearest_images(held, query, heads=heads, k=6, remove_mean=remove_mean)
    assert found["row"].tolist() == rows[:6].tolist()
    assert found["similarity"].tolist() == pytest.approx(values[:6].tolist(), abs=1e-6)
    assert found.chosen_heads == tuple(heads)


@pytest.mark.parametrize("heads", [FEW, MORE_THAN_WIDE])
def test_the_score_of_a_text_is_what_the_heads_add_to_its_cosine(model, held, heads):
    (embedding,) = model.encode_text(["a red circle"]).double()
    scores = summed(held, heads) @ embedding
    values, rows = (scores - scores.mean()).sort(descending=True)
    found = nearest_to_text(held, "a red circle", 7, heads=heads)
    assert found["row"].tolist() == rows[:7].tolist()
    assert found["score"].tolist() == pytest.approx(values[:7].tolist(), abs=1e-7)
    assert found.text == "a red circle"


def test_one_head_is_what_was_asked_before(held):
    alone = nearest_images(held, 3, heads=[(2, 1)])
    pd.testing.assert_frame_equal(alone, nearest_images(held, 3, 2, 1))
    by_text = nearest_to_text(held, "water", 5, heads=[(2, 1)])
    extreme = extreme_images(held, "water", 5, heads=[(2, 1)])
    highest = extreme[extreme["side"] == "highest"]
    assert by_text["row"].tolist() == highest["row"].tolist()
    assert by_text["score"].tolist() == pytest.approx(highest["score"].tolist(), abs=1e-7)


def test_a_layer_is_all_of_its_heads_and_no_head_is_all_of_them(held):
    of_layer = [(1, head) for head in range(4)]
    pd.testing.assert_frame_equal(nearest_images(held, 3, heads=1), nearest_images(held, 3, heads=of_layer))
    whole = nearest_to_text(held, "water")
    pd.testing.assert_frame_equal(whole, nearest_to_text(held, "water", heads=MORE_THAN_WIDE))


@pytest.fixture(scope="module")
def scenes() -> tuple[HookedCLIP, list, Contributions]:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    drawn = sample_scenes(160, seed=31)
    return model, drawn, model.decompose([draw(scene) for scene in drawn])


def test_colour_heads_find_the_same_colour_more_often_than_chance(scenes):
    _, drawn, held = scenes
    colours = [scene.colour for scene in drawn]
    same, possible, n_found = 0, 0, 0
    for row in range(40):
        found = nearest_images(held, row, heads=COLOUR_HEADS, k=4)["row"]
        same += sum(colours[each] == colours[row] for each in found)
        n_found += len(found)
        possible += (colours.count(colours[row]) - 1) * len(found) / (len(drawn) - 1)
    print(f"the same colour: {same / n_found:.2f}; by chance {possible / n_found:.2f}")
    assert same / n_found > 3 * possible / n_found


def test_a_text_finds_its_colour_more_often_than_chance(scenes):
    _, drawn, held = scenes
    colours = [scene.colour for scene in drawn]
    named = sorted(set(colours))
    found = {colour: nearest_to_text(held, f"{colour} shape", 8, heads=COLOUR_HEADS)["row"] for colour in named}
    right = sum(colours[row] == colour for colour, rows in found.items() for row in rows) / (8 * len(named))
    chance = sum(colours.count(colour) for colour in named) / (len(drawn) * len(named))
    print(f"the colour of the text: {right:.2f}; by chance {chance:.2f}")
    assert right > 3 * chance


def test_a_store_answers_as_its_rows_whatever_is_read_at_once(tmp_path, monkeypatch, scenes):
    monkeypatch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 8)
    model = scenes[0]
    store = collect(model, ScenesDataset(45, 11), tmp_path / "s", "contributions", dtype="float32", progress=False,
                    batch_size=4)  # fmt: skip
    held = store[:]
    heads = [(5, 3), (5, 1), (2, 6)]
    expected = (nearest_images(held, 4, heads=heads, k=9), nearest_to_text(held, "a star", 9, heads=heads))
    for most in (1, 10_000, 2**25):
        monkeypatch.setattr("clip_lens_plugin.collection.rows.MOST_HELD", most)
        pieces = [len(rows) for rows, _ in store.head_blocks(heads)]
        assert sum(pieces) == 45
        assert pieces == [45] if most == 2**25 else max(pieces) < 45
        found = (nearest_images(store, 4, heads=heads, k=9), nearest_to_text(store, "a star", 9, heads=heads))
        for table, plain in zip(found, expected, strict=True):
            pd.testing.assert_frame_equal(table.drop(columns="name"), plain.to_dataframe(), rtol=0, atol=1e-4)
    for rows, y in store.head_blocks(heads):
        assert torch.equal(y[:, 1], store.head(5, 1, rows))
    some = SomeRows(store, [40, 2, 9, 33])
    assert nearest_to_text(some, "a star", heads=heads)["row"].tolist() == (
        nearest_to_text(held.select([2, 9, 33, 40]), "a star", heads=heads)["row"].tolist()
    )


def test_what_is_the_same_for_all_images_is_near_to_no_text(scenes):
    model, drawn, _ = scenes
    same = model.decompose(model.prepare([draw(drawn[0])]).repeat(9, 1, 1, 1), batch_size=4)
    with pytest.raises(ValueError, match="'water' is the same for all images"):
        nearest_to_text(same, "water", heads=COLOUR_HEADS)
    with pytest.raises(ValueError, match="chosen heads together write nothing but their mean to the query"):
        nearest_images(same, 2, heads=COLOUR_HEADS)
    assert len(means_of(same).coordinates) == model.cfg.n_layers


@pytest.mark.parametrize(
    "chosen",
    [{}, {"layer": 1}, {"head": 1}, {"layer": 1, "heads": [(0, 0)]}, {"layer": 1, "head": 1, "heads": [(0, 0)]}],
)
def test_heads_are_chosen_in_one_way(held, chosen):
    with pytest.raises(ValueError, match="Choose one head as layer=5, head=3, each a whole number, or several"):
        nearest_images(held, 0, **chosen)


def test_bad_heads_and_texts_are_refused(held):
    with pytest.raises(ValueError, match="at least one"):
        nearest_images(held, 0, heads=[])
    with pytest.raises(IndexError, match="heads 0 to 3"):
        nearest_to_text(held, "water", heads=[(0, 4)])
    with pytest.raises(ValueError, match="One text needs one embedding, got 2"):
        nearest_to_text(held, "water", text_embeddings=torch.eye(24)[:2])
    with pytest.raises(ValueError, match="no image"):
        nearest_to_text(held.select(range(0)), "water")
