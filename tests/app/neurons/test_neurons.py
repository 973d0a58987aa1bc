"""Neurons on a picture are what a frozen run loses without them; over the pictures those of the public functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clip_lens_plugin import ContributionStore, collect, second_order, sparse_text
from clip_lens_plugin.app.asked import Asked, AskedPictures
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.neurons import neuron_words, neurons
from clip_lens_plugin.app.neurons.kept_neurons import KeptNeurons
from clip_lens_plugin.app.neurons.neurons import pushes, usual_layer
from clip_lens_plugin.app.neurons.neurons_shown import NeuronsShown
from clip_lens_plugin.app.page import Answer, Question
from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.app.pages.neurons import LACKING, OF_PICTURE
from clip_lens_plugin.app.state import State
from clip_lens_plugin.bars import followed
from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.report.in_reach import given_pictures
from clip_lens_plugin.report.pictures import PixelsInMemory
from clip_lens_plugin.retrieval import strongest_neurons
from clip_lens_plugin.retrieval.strongest import StrongestNeurons
from clip_lens_plugin.scenes.dataset import ScenesDataset
from tests.app.conftest import SEED, N
from tests.higher_order.frozen import added_through

pytestmark = pytest.mark.slow

LAYER, NEURON, COLLECTED = 4, 208, range(200, 240)
EVIL = "<img src=x>"
TEXTS = ("a circle", "a star", EVIL)


@pytest.fixture(scope="module")
def kept(explored: Explored, tmp_path_factory: pytest.TempPathFactory) -> ContributionStore:
    """The same scenes, with moments of all neurons of the layer, and of some of the one before."""
    scenes = as_source(ScenesDataset(N, SEED, "shape"))
    chosen = {LAYER: None, LAYER - 1: COLLECTED}
    folder = tmp_path_factory.mktemp("neurons")
    return collect(explored.model, scenes, folder, "contributions", dtype="float32", progress=False, neurons=chosen)


def shown(explored: Explored, asked: Asked, neuron: str) -> list[NeuronsShown]:
    """What the page shows, one after another."""
    question = Question(explored, lambda: asked, State("neurons", 3, TEXTS, neuron=neuron), 3)
    found = [each for each in PAGES["neurons"].answer(question) if isinstance(each, Answer)]
    assert all(isinstance(each.result, NeuronsShown) and each.rows == each.result.rows() for each in found)
    return [each.result for each in found if isinstance(each.result, NeuronsShown)]


def same(found: StrongestNeurons, expected: StrongestNeurons) -> None:
    """Effects on the pictures say what moments of the same pictures say; positions are those of the rows."""
    assert [each.neuron for each in found.neurons] == [each.neuron for each in expected.neurons]
    for one, other in zip(found.neurons, expected.neurons, strict=True):
        assert one.strength == pytest.approx(other.strength, rel=1e-3)
        assert [each.text for each in one.positive + one.negative] == [
            each.text for each in other.positive + other.negative
        ]
        assert [each.position for each in one.images[:4]] == [each.position for each in other.images[:4]]


def test_a_push_is_what_a_frozen_run_loses_without_the_neuron(explored: Explored, asked: Asked) -> None:
    model, found = explored.model, pushes(explored, asked, TEXTS, LAYER)
    with torch.no_grad():
        embedding, cache = model.run_with_cache(asked.pixels)
        post, W_out = cache[f"blocks.{LAYER}.mlp.hook_post"], model.blocks[LAYER].mlp.W_out
        texts = model.encode_text(list(TEXTS)).double()
        for neurons in ([NEURON], list(range(model.cfg.d_mlp))):
            written = post[..., neurons] @ W_out[neurons]
            heads = range(model.cfg.n_heads)
            lost = sum(added_through(model, asked.pixels, cache, 5, head, written).double() for head in heads)
            expected = (lost @ texts.T)[0] / embedding.double().norm()
            torch.testing.assert_close(found.values[neurons].double().sum(0), expected, rtol=1e-3, atol=2e-6)


def test_a_layer_is_that_of_the_public_function(explored: Explored, asked: Asked, kept: ContributionStore) -> None:
    first, last = shown(explored, asked, f"L{LAYER}")
    assert first.words is None
    assert last.words is not None
    expected = strongest_neurons(kept, LAYER, explored.pool.pool, neuron_words.COUNT)
    same(last.words.found, expected)
    assert f"the first {N} of {N} in reach" in last.views()[0].body
    values = second_order(explored.model, asked.pixels, LAYER).normalized().towards(list(TEXTS))[0]
    own = values.abs().amax(1).argsort(descending=True)[:OF_PICTURE].tolist()
    header, *rows, total = last.rows()
    assert header == ("neuron", *(f"push: {text}" for text in TEXTS), "place over the pictures", "+ text", "− text")
    assert [row[0] for row in rows] == [f"L{LAYER}N{neuron}" for neuron in own]
    numbers = [float(cell.replace("−", "-")) for row in (*rows, total) for cell in row[1:4]]
    torch.testing.assert_close(torch.tensor(numbers).view(-1, 3), torch.cat([values[own], values.sum(0)[None]]),
                               rtol=0, atol=6e-6)  # fmt: skip
    places = {str(each.neuron): f"{place}." for place, each in enumerate(expected.neurons, 1)}
    assert [row[4] for row in rows] == [places.get(row[0].partition("N")[2], "") for row in rows]
    words = strongest_neurons(kept, LAYER, explored.pool.pool, neurons=own)
    sides = {each.neuron: (each.positive[0].text, each.negative[0].text) for each in words.neurons}
    assert [row[5:] for row in rows] == [sides[neuron] for neuron in own]


def test_moments_that_were_collected_are_not_made_again(
    explored: Explored, asked: Asked, kept: ContributionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = as_source(ScenesDataset(N, SEED, "shape"))
    stored = replace(explored, data=kept, pictures=given_pictures(kept, scenes), neurons=KeptNeurons())
    assert (usual_layer(explored), usual_layer(stored)) == (2, LAYER - 1)
    monkeypatch.setattr(neuron_words, "second_order", lambda *given, **options: pytest.fail("It was run."))
    for neuron, expected in ((f"L{LAYER}", None), (f"L{LAYER - 1}N{COLLECTED[3]}", [COLLECTED[3]])):
        *_, last = shown(stored, asked, neuron)
        assert last.words is not None
        layer = last.pushes.layer
        same(last.words.found, strongest_neurons(kept, layer, explored.pool.pool, neuron_words.COUNT, neurons=expected))
        assert "that the store's moments are of" in last.words.about
        assert last.views()[1].body.count("data:image") == len(last.words.pictures) > 0
    monkeypatch.undo()
    *_, last = shown(stored, asked, f"L{LAYER - 1}N0")  # is not among those that were collected
    assert last.words is not None
    assert "in reach" in last.words.about


def test_one_neuron(explored: Explored, asked: Asked, kept: ContributionStore, tmp_path: Path) -> None:
    first, last = shown(explored, asked, f"L{LAYER}N{NEURON}")
    sizes = pushes(explored, asked, TEXTS, LAYER).values.abs()
    places = [sizes[:, t].sort(descending=True).values.tolist().index(float(sizes[NEURON, t])) + 1 for t in range(3)]
    assert [int(row[2]) for row in first.rows()[1:]] == places
    assert first.rows() == last.rows()
    assert last.words is not None
    expected = strongest_neurons(kept, LAYER, explored.pool.pool, 1, neurons=[NEURON])
    same(last.words.found, expected)
    pool, axis = (
        explored.pool,
        kept.neuron_moments(LAYER).of_neurons(explored.model, [NEURON]).principal(explored.model),
    )
    direction = sparse_text(explored.model, axis.directions, pool.pool, k=6, directions=True)
    assert last.words.direction is not None
    assert [text for text, _ in last.words.direction.words(0)] == [text for text, _ in direction.words(0)]
    for view in (*last.views(), last.view()):
        assert EVIL not in view.body
    assert last.save(tmp_path / "neuron.csv").read_text().count("\n") == 2
    for result in (first, last):
        assert result.save(tmp_path / "neuron.png").stat().st_size > 0
    table = shown(explored, asked, f"L{LAYER}")[-1].to_dataframe()
    assert set(table.columns) >= {"layer", "neuron", "strength", "positive", f"push: {TEXTS[0]}"}
    assert table["neuron"].is_unique
    assert table["positive"].notna().all()


def test_without_pictures_the_pushes_are_shown(explored: Explored, asked: Asked) -> None:
    nothing = PixelsInMemory(torch.empty(0, 3, *explored.model.cfg.image_size), None)
    (only,) = shown(replace(explored, pictures=nothing, neurons=KeptNeurons()), asked, f"L{LAYER}")
    assert only.words is None
    assert LACKING in only.view().body


@pytest.mark.parametrize(
    ("neuron", "message"),
    [
        ("", "'' is no layer and no neuron"),
        ("N3", "'N3' is no layer and no neuron: all neurons of a layer are L4, one is L4N100"),
        ("L5", "Layer 5 is the last: no head reads its neurons"),
        ("L9", "There is no layer 9"),
        ("L9N1", "There is no layer 9"),
        ("L4N512", "There is no neuron 512"),
    ],
)
def test_what_is_no_neuron_is_a_sentence(explored: Explored, asked: Asked, neuron: str, message: str) -> None:
    with pytest.raises((ValueError, IndexError), match=message):
        shown(explored, asked, neuron)


class Counted:
    """A function that counts its calls."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call, self.calls = call, 0

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.calls += 1
        return self.call(*given, **named)


def test_pictures_are_run_in_parts_and_it_can_be_stopped(explored: Explored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron_words, "AT_ONCE", 6)
    runs = Counted(second_order)
    reports: list[tuple[Any, ...]] = []
    monkeypatch.setattr(neuron_words, "second_order", runs)
    fresh = replace(explored, neurons=KeptNeurons())

    def stop(what: str, done: float | int, total: float | int | None) -> None:
        reports.append((what, done, total))
        if len(reports) == 2:
            raise KeyboardInterrupt

    with followed(stop), pytest.raises(KeyboardInterrupt):
        neuron_words.seen(fresh, LAYER, None)
    assert reports == [(f"running the neurons of layer {LAYER} on {N} pictures", done, 4) for done in (1, 2)]
    assert runs.calls == 2
    neuron_words.seen(fresh, LAYER, None)
    neuron_words.seen(fresh, LAYER, None)
    assert runs.calls == 2 + 4


def test_a_picture_is_run_once_for_a_layer(explored: Explored, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Counted(second_order)
    monkeypatch.setattr(neurons, "second_order", runs)
    fresh = replace(explored, neurons=KeptNeurons())
    asked = AskedPictures(explored.model).of(explored.photograph(0))
    first, second = (pushes(fresh, asked, texts, LAYER) for texts in (("a star", "a ring"), ("a ring",)))
    assert runs.calls == 1
    torch.testing.assert_close(first.values[:, 1:], second.values)
