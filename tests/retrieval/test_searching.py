"""Retrieval finds what full contributions of width e say, from memory or from a store, whatever its blocks."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
import torch

from clip_lens_plugin import HookedCLIP, Moments, TextPool, collect, decompose, text_span
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.retrieval import extreme_images, nearest_images
from clip_lens_plugin.scenes import ScenesDataset
from clip_lens_plugin.statistics.means import ComponentSums
from tests.conftest import random_clip, random_images

pytestmark = pytest.mark.slow

TEXTS = ["a dog", "a red circle", "water", "two people"]
HEADS = [(2, 1), (0, 3)]


class InBlocks(ContributionStore):
    """A store of contributions in memory, in blocks of any size."""

    names = None

    def __init__(self, held: Contributions, size: int) -> None:
        self.held, self.size, self.model = held, size, held.readout.model
        self.sums = ComponentSums.from_contributions(held.normalized())

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, rows) -> Contributions:
        return self.held.select(torch.as_tensor(list(rows), dtype=torch.int64))

    def head_blocks(self, heads):
        return Data.head_blocks(self, heads)

    def blocks(self):
        return (range(i, min(i + self.size, len(self))) for i in range(0, len(self), self.size))


@pytest.fixture
def held(model) -> Contributions:
    return model.decompose(random_images(model, 30))


def unit_contributions(held: Contributions) -> torch.Tensor:
    """c[b, l, h] in full, in cosine units [b, l, h, e]."""
    return held.heads / held.embedding.norm(dim=-1)[:, None, None, None]


def with_coordinates(held: Contributions, y: torch.Tensor) -> Contributions:
    """The same images, whose heads write something else; in units in which every embedding has norm 1."""
    embedding = torch.nn.functional.normalize(held.embedding)
    return Contributions(held.readout, dataclasses.replace(held._parts, coordinates=y, embedding=embedding))


def test_extremes_are_those_of_full_contributions(model, held):
    found = extreme_images(held, TEXTS, 4, heads=HEADS)
    embeddings = model.encode_text(TEXTS)
    expected = []
    for layer, head in HEADS:
        for rank, text in enumerate(TEXTS):
            scores = unit_contributions(held)[:, layer, head] @ embeddings[rank]
            scores = (scores - scores.mean()).tolist()
            rows = sorted(range(30), key=lambda row: scores[row])
            for side, picked in (("highest", rows[::-1][:4]), ("lowest", rows[:4])):
                for place, row in enumerate(picked):
                    expected.append((layer, head, rank + 1, text, side, place + 1, row, scores[row]))
    columns = ["layer", "head", "rank", "text", "side", "place", "row", "score"]
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected, columns=columns), rtol=0, atol=1e-7)


def test_texts_of_a_text_span_are_each_heads_own(model, held):
    pool = TextPool.from_strings(TextPool.general().texts[::40])
    embeddings = model.encode_text(pool.texts)
    spans = text_span(model, Moments.from_contributions(held), pool, 5, HEADS, embeddings)
    found = extreme_images(held, spans, 2, n_texts=3)
    assert len(found) == 2 * 3 * 2 * 2
    for layer, head in HEADS:
        here = found[(found["layer"] == layer) & (found["head"] == head)]
        assert list(dict.fromkeys(zip(here["rank"], here["text"], strict=True))) == [
            (i + 1, text) for i, text in enumerate(spans[layer, head].texts[:3])
        ]
        alone = extreme_images(held, spans[layer, head].texts[:3], 2, heads=[(layer, head)])
        pd.testing.assert_frame_equal(here.reset_index(drop=True), alone.to_dataframe())
    pd.testing.assert_frame_equal(extreme_images(held, spans, 2, n_texts=3, text_embeddings=embeddings), found)
    turned = extreme_images(held, spans, 2, n_texts=3, text_embeddings=-embeddings)
    assert turned[turned["side"] == "highest"]["row"].tolist() == found[found["side"] == "lowest"]["row"].tolist()


def test_planted_images_are_found(model, held):
    """A head that writes a text to three images, and its opposite to one, over a large constant."""
    M = held.readout.head_map(1, 2)
    written = torch.linalg.svd(M).Vh[[0, 3]]
    text, (direction, other) = written[:1], written @ torch.linalg.pinv(M)
    y = torch.zeros(30, 3, 4, 12, dtype=torch.float64)
    y[:, 1, 2] = 5 * direction
    for row, strength in ((7, 0.3), (22, 0.2), (4, 0.1), (13, -0.4)):
        y[row, 1, 2] += strength * direction
    y[9, 1, 2] += 0.5 * other
    planted = with_coordinates(held, y)
    found = extreme_images(planted, ["planted"], 3, heads=[(1, 2)], text_embeddings=text)
    assert found["row"].tolist()[:4] == [7, 22, 4, 13]
    mean = 0.2 / 30
    assert found["score"].tolist()[:4] == pytest.approx([0.3 - mean, 0.2 - mean, 0.1 - mean, -0.4 - mean], abs=1e-6)
    alike = nearest_images(planted, 7, 1, 2, 29)
    assert set(alike["row"][:2]) == {22, 4}
    assert alike["row"].iloc[-1] == 13
    assert alike["similarity"].iloc[-1] == pytest.approx(-1, abs=0.01)
    whole = nearest_images(planted, 7, 1, 2, 29, remove_mean=False)
    assert whole["similarity"].iloc[0] == pytest.approx(1)
    assert whole["row"].iloc[-1] == 9  # The only one that is not on a line with the others.


@pytest.mark.parametrize("remove_mean", [True, False])
def test_nearest_are_those_of_full_contributions(model, held, remove_mean):
    query = model.decompose(random_images(model, 1, seed=5))
    for layer, head in HEADS:
        c, q = unit_contributions(held)[:, layer, head], unit_contributions(query)[0, layer, head]
        if remove_mean:
            c, q = c - c.mean(0), q - c.mean(0)
        similarity = torch.nn.functional.cosine_similarity(c, q[None])
        values, rows = similarity.sort(descending=True)
        for given in (query, query.normalized()):
            found = nearest_images(held, given, layer, head, 6, remove_mean=remove_mean)
            assert found["place"].tolist() == [1, 2, 3, 4, 5, 6]
            assert found["row"].tolist() == rows[:6].tolist()
            assert found["similarity"].tolist() == pytest.approx(values[:6].tolist(), abs=1e-6)


def test_a_row_as_query_is_itself_left_out(held):
    by_row = nearest_images(held, 17, 2, 0, 40)
    given = nearest_images(held, held.select(torch.tensor([17])), 2, 0, 40)
    assert len(by_row) == 29
    assert given["row"][0] == 17
    assert given["similarity"][0] == pytest.approx(1)
    assert by_row["row"].tolist() == given["row"].tolist()[1:]


def test_equal_images_stand_in_the_order_of_rows_in_blocks_of_any_size(held):
    repeated = held.select(torch.arange(24) % 5)
    tables = [
        (extreme_images(data, TEXTS, 7, heads=HEADS), nearest_images(data, 3, 2, 1, 9))
        for data in (repeated, *(InBlocks(repeated, size) for size in (1, 4, 7, 24)))
    ]
    for extremes, nearest in tables:
        for _, group in extremes.groupby(["layer", "head", "rank", "side"]):
            rows = group.sort_values("place")["row"].tolist()
            images = dict.fromkeys(row % 5 for row in rows)
            assert rows == [row for image in images for row in range(image, 24, 5)][:7]
        assert nearest["row"].tolist()[:4] == [8, 13, 18, 23]
        pd.testing.assert_frame_equal(extremes, tables[0][0], rtol=0, atol=1e-12)
        pd.testing.assert_frame_equal(nearest, tables[0][1])


@pytest.fixture(scope="module")
def scenes_model() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu")


def test_a_store_gives_what_its_contributions_give(scenes_model, tmp_path, monkeypatch):
    monkeypatch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 8)
    data = ScenesDataset(21, 11, "background")
    store = collect(scenes_model, data, tmp_path / "s", "contributions", dtype="float32", batch_size=4, progress=False)
    assert len(list(store.blocks())) == 3
    held = scenes_model.decompose(scenes_model.prepare([data[i][0] for i in range(21)]))
    texts, heads = ["a red circle", "a green background"], [(-1, 0), (-1, 2)]
    from_store, from_memory = (extreme_images(each, texts, 3, heads=heads) for each in (store, held))
    assert list(from_store.pop("name")) == [store.names[row] for row in from_store["row"]]
    pd.testing.assert_frame_equal(from_store, from_memory, rtol=0, atol=1e-5)
    for query in (12, held.select(torch.tensor([12]))):
        from_store, from_memory = (nearest_images(each, query, -1, 2, 5) for each in (store, held))
        pd.testing.assert_frame_equal(from_store.drop(columns="name"), from_memory.to_dataframe(), rtol=0, atol=1e-4)


def test_a_store_of_moments_alone_is_refused(scenes_model, tmp_path):
    store = collect(scenes_model, ScenesDataset(6, 11), tmp_path / "s", progress=False)
    with pytest.raises(ValueError, match=r"what='contributions'"):
        extreme_images(store, ["a dog"], 3)
    with pytest.raises(ValueError, match=r"what='contributions'"):
        nearest_images(store, 2, 0, 0, 3)


def test_all_heads_of_free_texts_and_all_images_of_a_small_set(held):
    few = held.select(torch.tensor([3, 1]))
    found = extreme_images(few, ["a dog"], 5)
    assert len(found) == 3 * 4 * 2 * 2
    assert found.groupby(["layer", "head"])["score"].sum().abs().max() < 1e-7


def test_images_to_which_a_head_writes_the_same_are_not_extreme(scenes_model):
    image = scenes_model.prepare([ScenesDataset(1, 5)[0]])
    held = scenes_model.decompose(image.repeat(9, 1, 1, 1), batch_size=4)
    with pytest.warns(UserWarning, match=r"same for all 9 images.*layer 5, head 0, layer 5, head 1\."):
        assert len(extreme_images(held, TEXTS, 3, heads=[(5, 0), (5, 1)])) == 0
    with pytest.raises(ValueError, match="writes nothing but its mean"):
        nearest_images(held, 2, 5, 0, 3)


def test_negative_rows_and_heads_count_from_the_end(held):
    pd.testing.assert_frame_equal(nearest_images(held, -1, -1, -2, 4), nearest_images(held, 29, 2, 2, 4))


def test_bad_arguments_are_refused(model, held):
    for texts in ([], ()):
        with pytest.raises(ValueError, match="list of one or more texts"):
            extreme_images(held, texts, 3)
    for number in (0, -1):
        with pytest.raises(ValueError, match="k must be a whole number of at least 1"):
            extreme_images(held, TEXTS, number)
        with pytest.raises(ValueError, match="k must be a whole number of at least 1"):
            nearest_images(held, 0, 0, 0, number)
        with pytest.raises(ValueError, match="n_texts must be a whole number of at least 1"):
            extreme_images(held, TEXTS, 1, n_texts=number)
    none = held.select(torch.arange(0))
    with pytest.raises(ValueError, match="no image"):
        extreme_images(none, TEXTS, 3)
    with pytest.raises(ValueError, match="no image"):
        nearest_images(none, held.select(torch.tensor([0])), 0, 0, 3)
    with pytest.raises(ValueError, match="at least one"):
        extreme_images(held, TEXTS, 3, heads=[])
    with pytest.raises(IndexError, match="heads 0 to 3"):
        extreme_images(held, TEXTS, 3, heads=[(0, 4)])
    with pytest.raises(IndexError, match="layers 0 to 2"):
        nearest_images(held, 0, 3, 0, 3)
    with pytest.raises(IndexError, match="no row 30: there are 30, from 0 to 29"):
        nearest_images(held, 30, 0, 0, 3)
    with pytest.raises(ValueError, match=r"need 4 embeddings, got 3"):
        extreme_images(held, TEXTS, 3, text_embeddings=model.encode_text(TEXTS)[:3])
    with pytest.raises(ValueError, match=r"must be \[texts, 24\]"):
        extreme_images(held, TEXTS, 3, text_embeddings=torch.ones(4, 20))
    spans = text_span(model, Moments.from_contributions(held), TEXTS, 2, [(2, 1)])
    with pytest.raises(KeyError, match="not run on layer 0"):
        extreme_images(held, spans, 3, heads=[(0, 3)])


def test_four_are_found_where_no_number_is_given(held):
    assert len(nearest_images(held, 0, 2, 1)) == 4
    assert set(extreme_images(held, TEXTS[0], heads=[(2, 1)])["place"]) == {1, 2, 3, 4}


def test_a_model_that_comes_first_is_named(model, held):
    for ask in (lambda: extreme_images(model, "water"), lambda: nearest_images(model, held, 0, 2, 1)):
        with pytest.raises(ValueError, match=r"come first, got a model \(HookedCLIP\): leave it out"):
            ask()


def test_bad_queries_and_contributions_are_refused(model, held):
    with pytest.raises(ValueError, match="of one image of the same model"):
        nearest_images(held, held.select(torch.tensor([0, 1])), 0, 0, 3)
    other = HookedCLIP.from_open_clip(random_clip({"vision_cfg": {"layers": 2}}, torch.float64))
    with pytest.raises(ValueError, match="of one image of the same model"):
        nearest_images(held, other.decompose(random_images(other, 1)), 0, 0, 3)
    y = held.head_coordinates.clone()
    y[:, 1, 1] = y[0, 1, 1]
    y[:, 0, 0] = 0.0
    constant = with_coordinates(held, y)
    with pytest.raises(ValueError, match=r"Layer 1, head 1 writes nothing but its mean"):
        nearest_images(constant, 0, 1, 1, 3)
    with pytest.raises(ValueError, match=r"Layer 0, head 0 writes nothing to the query"):
        nearest_images(constant, 0, 0, 0, 3, remove_mean=False)
    y[4, 2, 2] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        extreme_images(with_coordinates(held, y), TEXTS, 3)
    _, cache = model.run_with_cache(random_images(model, 3))
    with pytest.raises(ValueError, match="constants='separate'"):
        extreme_images(decompose(model, cache, constants="shared"), TEXTS, 3)
