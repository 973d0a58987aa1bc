"""Results draw themselves, save themselves and speak of themselves in a line or two."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pkgutil import resolve_name

import pandas as pd
import pytest
import torch
from markupsafe import escape

from clip_lens_plugin import (  # fmt: skip
    ContributionStore,
    Groups,
    HookedCLIP,
    Moments,
    TextPool,
    attribution_patching,
    class_heads,
    collect,
    edit_effects,
    explain,
    group_effects,
    head_roles,
    head_singular_texts,
    interaction,
    mean_ablation_curve,
    patch_heads,
    patch_text_map,
    role_growth,
    saliency_map,
    second_order,
    segmentation_scores,
    sparse_text,
    spurious_heads,
    text_span,
    upstream,
    upstream_tree,
)
from clip_lens_plugin.ablation import text_span_completeness
from clip_lens_plugin.describe.spans import TextSpanResult
from clip_lens_plugin.maps.patch_text import PatchTextMap, head_text_scores
from clip_lens_plugin.retrieval import extreme_images, nearest_images, strongest_neurons
from clip_lens_plugin.scenes import ScenesDataset, draw, sample_scenes
from clip_lens_plugin.scenes.seeds import SCENES_SEED
from clip_lens_plugin.segmentation import DrawnObjects
from clip_lens_plugin.shown import INLINE, VIEWS, ResultTable, Shown
from clip_lens_plugin.views import View
from clip_lens_plugin.zero_shot.by_names import classifier_by_names

pytestmark = pytest.mark.slow

TEXTS = ["red shape", "blue shape", "a circle", "a square", "white background"]
THEMED = TextPool(TEXTS, ["colour", "colour", "shape", "shape", "background"])
GROUPS = Groups.of([i % 2 for i in range(12)], [i // 2 % 2 for i in range(12)], [i // 4 for i in range(12)])
PICTURES = [draw(scene) for scene in sample_scenes(12, seed=9)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One of each kind that :data:`VIEWS` names, of pictures."""
    model = HookedCLIP.from_pretrained("scenes")
    held = model.decompose(PICTURES)
    spans = text_span(model, held, TextPool(TEXTS), 3, heads=[(4, 3), (5, 1)])
    store = collect(model, ScenesDataset(30, SCENES_SEED, "background"), tmp_path_factory.mktemp("s") / "store",
                    "contributions", progress=False, neurons={4: range(20)})  # fmt: skip
    found = [
        patch_text_map(model, PICTURES[:2], TEXTS[:2]),
        patch_text_map(model, PICTURES[:2], TEXTS[:2]).leading(),
        head_text_scores(model, PICTURES[0], TEXTS[0]),
        saliency_map(model, PICTURES[0], TEXTS[0], "maskclip", against=TEXTS),
        segmentation_scores(model, ["patch_text", "random"], DrawnObjects(3), overlays=1),
        spans,
        spans[5, 1],
        interaction(model, PICTURES[:1], TEXTS[:2]),
        nearest_images(held, PICTURES[3], layer=5, head=1, k=3),
        extreme_images(held, spans, 2),
        mean_ablation_curve(store),
        text_span_completeness(
            held, model.encode_text(TEXTS[:2]), {"own": spans}, torch.arange(12) % 2, n_texts=[1, 2]
        ),
        held.shares(),
        explain(model, PICTURES[0], *TEXTS[:2], means=store, texts=TEXTS),
        upstream(model, PICTURES[:2], 3, 1),
        upstream_tree(model, PICTURES[0], 3, 1, TEXTS[0]),
        patch_heads(model, PICTURES[:1], PICTURES[1:2], lambda embedding: embedding[:, 0]),
        attribution_patching(model, PICTURES[:1], PICTURES[1:2], lambda embedding: embedding[:, 0], check=3),
        sparse_text(model, held, TEXTS),
        head_singular_texts(model, TEXTS, [(5, 1)]),
        strongest_neurons(store, 4, TEXTS, 3),
        class_heads(store),
        group_effects(held, held.readout.model.encode_text(TEXTS[2:4]), GROUPS),
        spurious_heads(model, held, model.encode_text(TEXTS[2:4]), GROUPS, runs=False, random_sets=3, permutations=1),
        head_roles(model, store, THEMED, 2, [(5, 1)], n_nulls=19, n_bootstraps=3),
        role_growth(model, store, THEMED, [4], 2, [(5, 1)], n_nulls=19, n_bootstraps=3, repeats=1),
    ]
    return {type(each).__name__: each for each in found}, held, store


def test_every_kind_is_there(results):
    assert set(results[0]) == set(VIEWS)
    for name in VIEWS.values():
        assert callable(resolve_name(name))


@pytest.mark.parametrize("kind", VIEWS)
def test_it_draws_saves_and_names_itself(results, kind, tmp_path):
    found = results[0][kind]
    assert isinstance(found.view(), View)
    bundle = found._repr_mimebundle_()
    assert "clip-lens" in bundle["text/html"] == found._repr_html_()
    assert bundle["text/plain"] == repr(found)
    assert ("image/png" in bundle) == (kind not in INLINE)
    assert found.save(tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
    assert found.save(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    table = found.to_dataframe()
    assert type(table) is pd.DataFrame
    assert len(table) > 0
    pd.testing.assert_frame_equal(pd.read_parquet(found.save(tmp_path / "a.parquet")), table, check_dtype=False)
    assert len(pd.read_csv(found.save(tmp_path / "a.csv"))) == len(table)
    if not isinstance(found, ResultTable):
        assert "tensor(" not in repr(found)
        assert len(repr(found)) < 600
    with pytest.raises(ValueError, match=r"\.html"):
        found.save(tmp_path / "a.docx")
    assert not (tmp_path / "a.docx").exists()


@pytest.mark.parametrize("kind", INLINE)
def test_texts_of_heads_are_plain_tables_in_a_notebook(results, kind):
    """The script that explores them is in the view alone."""
    found = results[0][kind]
    shown = found._repr_html_()
    assert "<script" not in shown
    assert len(shown) < 40_000
    assert "<table" in shown
    spans = found if kind == "TextSpanResult" else [found]
    for span in spans:
        assert all(text in shown for text in span.texts[:3])
        assert f"{100 * span.explained_variance[:3][-1]:.1f}" in shown
    assert "circuitsvis" in found.view()._repr_html_()


def test_what_a_text_holds_is_text_in_a_plain_table(results):
    span = replace(results[0]["HeadSpan"], texts=["<img src=x>", "a", "b"], explained_variance=[0.5, 0.6, 0.7])
    for found in (span, TextSpanResult([span], 6)):
        assert "&lt;img src=x&gt;" in found._repr_html_()
        assert "<img" not in found._repr_html_()
    assert "holds no head" in TextSpanResult([], 6)._repr_html_()


def test_rows_have_names_and_pictures_of_a_store_are_found(results):
    _, held, store = results
    near = nearest_images(store, 4, layer=5, head=1, k=3)
    assert list(near["name"]) == [store.names[row] for row in near["row"]]
    assert near.view().body.count("data:image") == 4  # The one asked about, and three.
    free = extreme_images(held, "red shape", 2, heads=[(5, 1)])
    assert set(free["text"]) == {"red shape"}
    assert "nan" not in free.view().body.lower().replace("nano", "")
    assert list(free["name"]) == [held.names[row] for row in free["row"]]


def test_tables_stay_tables_when_pickled_or_cut(results):
    near = results[0]["NearestImages"]
    again = pickle.loads(pickle.dumps(near))
    pd.testing.assert_frame_equal(again.to_dataframe(), near.to_dataframe())
    assert (again.chosen_heads, again.data) == (((5, 1),), None)
    assert "does not know its images" in again._repr_html_()
    assert type(near[near["place"] < 3]) is pd.DataFrame


def test_a_store_by_its_path_answers_without_more(results, tmp_path):
    store = results[2]
    model = store.model
    path = str(store._place)
    classifier = classifier_by_names(model, store.classes)
    pd.testing.assert_frame_equal(mean_ablation_curve(path), mean_ablation_curve(store, classifier))
    spans = text_span(model, path, TEXTS, 2, heads=[(5, 1)])
    assert spans[5, 1].texts == text_span(model, store, TEXTS, 2, heads=[(5, 1)])[5, 1].texts
    assert nearest_images(path, 3, 5, 1, 2).equals(nearest_images(store, 3, 5, 1, 2))
    with pytest.raises(ValueError, match=r"model\.decompose\(images\)"):
        nearest_images(tmp_path / "photo.jpg", 0, 5, 1, 2)
    with pytest.raises(ValueError, match="name no classes"):
        mean_ablation_curve(results[1])


def test_sums_say_what_they_are_of(results):
    held, store = results[1:]
    for found in (Moments.of(held), store.moments, store.sums):
        assert "tensor(" not in repr(found)
        assert f"images={found.n}" in repr(found)
    assert isinstance(ContributionStore.open(str(store._place), store.model).moments.sum_y, torch.Tensor)


def test_results_without_a_view_show_their_table(results):
    _, held, store = results
    model, classifier = held.readout.model, classifier_by_names(held.readout.model, store.classes)
    effects = second_order(model, PICTURES[:2], 4, range(3))
    accuracy = store.accuracy(classifier)
    changes = edit_effects(model.edited(remove=[(5, 1)]), store, classifier)
    for found in (effects, accuracy, model.verify(), changes):
        page, table = found._repr_html_(), found.to_dataframe()
        assert page.startswith(f"<p>{escape(str(found))}</p>")
        assert re.findall("<th>(.*?)</th>", page) == list(table.columns)
        assert page.count("<tr>") >= min(len(table), 20)
    assert str(accuracy).startswith(f"top1 {accuracy.top1.value:.3f} (")
    assert list(model.verify().to_dataframe()["what"]) == ["image", "text"]


def test_a_derived_result_is_shown_as_what_it_is_derived_from(results):
    class Mine(PatchTextMap):
        pass

    found = results[0]["PatchTextMap"]
    mine = object.__new__(Mine)
    mine.__dict__.update(vars(found))
    assert mine._repr_html_() == found._repr_html_()

    class Other(Shown):
        def to_dataframe(self) -> pd.DataFrame:
            return pd.DataFrame({"a": [1]})

    with pytest.raises(TypeError, match="No view is known for Other"):
        Other().view()
