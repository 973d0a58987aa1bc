"""Rows, labels, donors and components are picked alike of contributions in memory and of a store."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

from clip_lens_plugin import Contributions, patch_text_map
from clip_lens_plugin.ablation import (
    resample_ablation,
)
from clip_lens_plugin.ablation.component_sets import Components
from tests.support.worlds import TEXTS, World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("arguments"))


@pytest.fixture(autouse=True)
def as_outside_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


# ---------------------------------------------------------------------- names out of a list


@pytest.mark.parametrize("kind", ["held", "normalised", "store"])
def test_rows_are_picked_in_every_way(world: World, kind: str) -> None:
    def pick(rows: Any) -> Contributions:
        if kind == "store":
            return world.store[rows]
        return (world.held if kind == "held" else world.held.normalized()).select(rows)

    every = pick(slice(None)).embedding
    assert every.shape == (5, 128)
    for rows, expected in (
        ([3, 0], [3, 0]),
        ([-1, 1, 1], [4, 1, 1]),
        (range(1, 3), [1, 2]),
        (slice(1, -1), [1, 2, 3]),
        (slice(None, None, -2), [4, 2, 0]),
        ([True, False, False, True, False], [0, 3]),
        (np.array([2, -2]), [2, 3]),
        (np.array([False, True, False, False, True]), [1, 4]),
        (torch.tensor([0, -5, 4], dtype=torch.int32), [0, 0, 4]),
        (torch.tensor([True, True, False, False, False]), [0, 1]),
        ([], []),
    ):
        found = pick(rows)
        assert torch.equal(found.embedding, every[expected])
        assert torch.equal(found.head_coordinates, pick(slice(None)).head_coordinates[expected])
    for wrong in ([0.5], [[0]], "ab", [None]):
        with pytest.raises(ValueError, match="are a slice, a range, whole numbers or a mask"):
            pick(wrong)
    for wrong in ([5], [0, -6], [True]):
        with pytest.raises(IndexError, match=r"There is no|The mask has 1 values, there are 5"):
            pick(wrong)


def test_what_is_kept_of_tokens_follows_the_rows(world: World) -> None:
    picked = world.held.select([4, -4])
    assert torch.equal(picked.tokens(-1, -1), world.held.tokens(5, 7)[[4, 1]])
    assert torch.equal(picked.neurons(-6), world.held.neurons(0)[[4, 1]])


def test_a_store_gives_batches(world: World) -> None:
    for single, mend in ((3, r"store\[3:4\]"), (-1, r"store\[4:5\]"), (np.int64(2), r"store\[2:3\]")):
        with pytest.raises(TypeError, match=mend):
            world.store[single]


def test_donors_count_from_either_end(world: World) -> None:
    expected = world.run(resample_ablation(torch.tensor([1, 2, 3, 4, 0])))
    assert torch.equal(world.run(resample_ablation(torch.tensor([1, -3, 3, -1, 0]))), expected)
    for wrong in ([0, 1, 2, 3, 5], [0, 1, 2, 3, -6]):
        with pytest.raises(IndexError, match=f"There is no donor in the batch {wrong[-1]}"):
            world.run(resample_ablation(torch.tensor(wrong)))
    for wrong in (torch.zeros(5), torch.ones(5, dtype=torch.bool)):
        with pytest.raises(ValueError, match="Donors must be positions in the batch, whole numbers"):
            resample_ablation(wrong)


def test_components_made_by_hand_are_those_of_the_model(world: World) -> None:
    """Else layers that are not there would be left out in silence, and the curve would be another's."""
    made = Components("last", "mlps", heads=frozenset([(-1, -1)]), mlps=frozenset([-2]))
    named = Components.of_heads(world.model, [(5, 7)]) | Components.of_mlps(world.model, [4])
    for options in ({}, {"effect": "total", "images": world.images}):
        found, expected = (world.curve(components=[each], **options)["accuracy"] for each in (made, named))
        assert found.tolist() == expected.tolist()
        for wrong in ({"mlps": frozenset([6])}, {"heads": frozenset([(0, 8)])}, {"biases": frozenset([-7])}):
            with pytest.raises(IndexError, match="There is no layer"):
                world.curve(components=[replace(made, **wrong)], **options)


# ---------------------------------------------------------------------- labels


@pytest.mark.parametrize("call", [lambda w, x: w.curve(labels=x), lambda w, x: w.report(x)], ids=["curve", "report"])
def test_labels_are_positions_of_classes(world: World, call: Callable[[World, Any], object]) -> None:
    for wrong, message in (
        (torch.tensor([0.0, 1, 2, 0, 1]), "whole numbers"),
        (torch.ones(5, dtype=torch.bool), "whole numbers"),
        (torch.tensor([0, 1, 2]), "5 images need as many labels, got 3"),
        (torch.tensor([0, 1, 2, 3, 0]), "0 to 2, or -1"),
        (torch.tensor([0, 1, 2, -2, 0]), "0 to 2, or -1"),
    ):
        with pytest.raises(ValueError, match=message):
            call(world, wrong)


def test_nothing_of_this_warns(world: World) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.curve()
        patch_text_map(world.model, world.images, TEXTS, heads=-1)
