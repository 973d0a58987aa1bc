"""Parts of whatever is analysed: disjoint, together all of it, and said where there are none."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, Moments, collect
from clip_lens_plugin.roles import parts as parts_module
from clip_lens_plugin.roles.parts import asked_in_parts, summed
from clip_lens_plugin.scenes import ScenesDataset
from tests.conftest import random_images
from tests.roles.planted import random_model


@pytest.fixture(scope="module")
def world():
    model = random_model()
    return model, model.decompose(random_images(model, 70))


def test_rows_are_in_parts_that_are_all_of_them(world):
    model, contributions = world
    given = asked_in_parts(model, contributions, [(1, 0), (2, 3)])
    assert 30 < len(given.parts) <= 50
    assert given.of == f"{len(given.parts)} parts of the images"
    assert [part.layers for part in given.parts] == [(1, 2)] * len(given.parts)
    whole, asked = summed(given.parts), given.asked.moments
    assert whole.n == asked.n == 70
    assert torch.allclose(whole.sum_yy, asked.sum_yy)
    assert torch.allclose(whole.sum_y, asked.sum_y)


def test_moments_are_parts_where_there_are_enough(world):
    model, contributions = world
    parts = [Moments.from_contributions(contributions.select([row])) for row in range(12)]
    given = asked_in_parts(model, parts, "late")
    assert given.parts == tuple(parts)
    assert given.asked.moments.n == 12
    few = contributions.select(range(4))
    for data, source in (
        (parts[:3], "3 parts are too few"),
        (summed(parts), "one Moments has no parts"),
        (few, "too few"),
    ):
        given = asked_in_parts(model, data, "late")
        assert given.parts == ()
        assert source in given.of
    with pytest.raises(ValueError, match="do not add"):
        asked_in_parts(model, [*parts, Moments.from_contributions(contributions.normalized())], "late")


def test_parts_of_a_store_are_those_that_were_collected(tmp_path):
    model = HookedCLIP.from_pretrained("scenes")
    store = collect(model, ScenesDataset(40, 3, "shape"), tmp_path / "store", "moments", progress=False)
    given = asked_in_parts(model, store, "late")
    assert given.parts == store.part_moments
    assert len(given.parts) >= 10
    every = asked_in_parts(model, store, "all")
    assert every.parts == ()
    assert "neither parts of these layers nor rows" in every.of


def test_parts_that_would_be_too_large_are_not_made(world, monkeypatch):
    model, contributions = world
    monkeypatch.setattr(parts_module, "MOST_BYTES", 1000)
    given = asked_in_parts(model, contributions, "late")
    assert given.parts == ()
    assert "parts of 3 layers would take more than" in given.of
    assert "ask for heads= of fewer layers" in given.of
