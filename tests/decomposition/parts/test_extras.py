"""What only some families have is listed by every reader alike, and what each lists sums to the source's own output."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from clip_lens_plugin import Contributions, HookedCLIP
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.collection.rows import BlockRows, RowWriter, make_arrays, read_contributions
from clip_lens_plugin.decisions.gaps import head_table, patch_table
from clip_lens_plugin.decomposition.parts import extras
from clip_lens_plugin.decomposition.parts.component_shares import ShareStatistics, component_scores
from clip_lens_plugin.decomposition.parts.parts import Parts
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.layers.pooling.attention_pool import MLP_OUT, AttentionPool
from clip_lens_plugin.statistics.means import ComponentSums
from clip_lens_plugin.views.figures.summaries import layer_figure
from clip_lens_plugin.views.report.summaries import layer_table
from tests.conftest import random_images
from tests.support.families import DEPTH, FAMILIES

pytestmark = pytest.mark.slow

N = 4
EVERY_FAMILYS = {"embed", "attn_bias", "mlp", "ln_bias"}
EXPECTED = {
    "coca": {"pool_bias"},
    **{name: {"bias_weight"} for name in ("custom", "custom_mean", "EVA-02, post-norm")},
    **{name: {"pool_bias", "pool_mlp"} for name in ("SigLIP", "SigLIP with registers", "PE", "PE, no class token")},
}
"""Of the families that have any."""


class Rows:
    """A data set of which only the size matters."""

    description, classes = "noise", None

    def __len__(self) -> int:
        return N

    def name(self, position: int) -> str:
        return str(position)

    def read(self, position: int) -> Any:
        raise NotImplementedError

    def fingerprint(self) -> str:
        return "noise"


def stored(model: HookedCLIP, c: Contributions, folder: Path) -> tuple[Contributions, set[str]]:
    """The same as a store gives them back, and the names of its arrays."""
    place, plan = Place(folder), Plan.of(model, Rows(), "contributions", "float32", N, None)
    make_arrays(place, plan)
    rows = BlockRows(plan, 0)
    rows.fill(list(range(N)), [-1] * N, c)
    RowWriter(place, plan).write(rows, 0)
    positions = plan.samples(0)
    read = read_contributions(place.group(), torch.tensor(positions).numpy(), Readout.of(model), plan)
    return read, set(rows.arrays)


def check_every_reader(model: HookedCLIP, names: set[str], folder: Path) -> pd.DataFrame:
    """Each lists the components of these names and no others; shares by layer are returned."""
    images = random_images(model, N)
    whole = model.clip.encode_image(images).detach()  # type: ignore[operator]
    c = model.decompose(images, tokens=True)
    assert set(extras.extras_of(model)) == set(c._parts.extras) == names
    added = names - {"bias_weight"}

    direction = torch.randn(whole.shape[1], generator=torch.Generator().manual_seed(1), dtype=whole.dtype)
    from_store, arrays = stored(model, c, folder)
    assert arrays >= names
    assert not arrays & ({"bias_weight", *extras.COMPONENTS} - names)
    for each, tolerance in ((c, 1e-9), (c.with_constants("shared"), 1e-9), (from_store, 1e-4)):
        components, labels = each.stack()
        assert {label for label in labels if not label[0].isdigit() and label[0] != "L"} == {"embed", "ln_bias", *added}
        torch.testing.assert_close(components.sum(1), whole, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(each.total(), whole, rtol=tolerance, atol=tolerance)

        table = each.shares()
        assert set(table["part"]) - {"edits"} == {"head", *EVERY_FAMILYS, *added}
        assert table["share_mean"].to_numpy().sum() == pytest.approx(1, abs=tolerance)

        mean = ComponentSums.from_contributions(each).mean()
        assert mean.rest is not None
        heads = each.heads.sum((0, 1, 2)) / N
        found = heads + mean.attn_bias.sum(0) + mean.mlps.sum(0) + mean.embed + mean.rest
        torch.testing.assert_close(found, whole.mean(0), rtol=tolerance, atol=tolerance)

    one = c.select([2])
    scores = {name: each[0] for name, each in component_scores(one, direction[None]).items()}
    gap = float(whole[2] @ direction)
    assert set(scores) - {"edits"} == {"heads", *EVERY_FAMILYS, *added}
    by_head = head_table(scores, torch.zeros_like(scores["heads"]), gap)
    by_patch = patch_table(scores, one.by_token()[0] @ direction, model.cfg.grid_size, gap)
    assert set(by_head.rows["part"]) - {"edits"} == {"head", *EVERY_FAMILYS, *added}
    assert set(by_patch.rows["part"]) >= EVERY_FAMILYS | added
    assert max(by_head.error, by_patch.error) < 1e-9
    return ShareStatistics.of([c]).by_layer()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_reader_lists_what_a_family_has(family: str, tmp_path: Path) -> None:
    names = EXPECTED.get(family, set())
    layers = check_every_reader(HookedCLIP.from_open_clip(FAMILIES[family]().double()), names, tmp_path)
    added = len(names - {"bias_weight"})
    assert layer_table(layers).count("<tr>") == 1 + 1 + DEPTH + 1 + added  # Header, embed, layers, ln_bias.
    shown = [label.get_text().replace("\n", " ") for label in layer_figure(layers).axes[0].get_xticklabels()]
    assert ["pool bias" in shown, "pool MLP" in shown] == ["pool_bias" in names, "pool_mlp" in names]


def test_a_new_one_needs_its_pooling_and_one_declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool whose MLP is two components: every reader lists both."""
    own_parts = AttentionPool.own_parts

    def halved(self: AttentionPool, read: dict[str, Tensor], beta: Tensor, P: Tensor) -> dict[str, Tensor]:
        half = read[MLP_OUT][:, 0] @ P / 2
        return {**own_parts(self, read, beta, P), "pool_mlp": half, "other_half": half}

    monkeypatch.setattr(AttentionPool, "own_parts", halved)
    monkeypatch.setattr(AttentionPool, "parts", ("pool_bias", "pool_mlp", "other_half"))
    monkeypatch.setitem(extras.COMPONENTS, "other_half", extras.Extra("the other half", "half", is_constant=False))
    model = HookedCLIP.from_open_clip(FAMILIES["SigLIP"]().double())
    check_every_reader(model, {"pool_bias", "pool_mlp", "other_half"}, tmp_path)


@pytest.mark.parametrize("family", ["plain", "coca", "custom", "PE"])
def test_pickles_of_earlier_versions_are_read(family: str) -> None:
    """They had each extra as an attribute, None where there is none."""
    model = HookedCLIP.from_open_clip(FAMILIES[family]())
    now = model.decompose(random_images(model, N))._parts
    held = dict(vars(now))
    own = held.pop("extras")
    earlier = object.__new__(Parts)
    earlier.__dict__.update(held, **{name: own.get(name) for name in ("pool_bias", "pool_mlp", "bias_weight")})
    read = pickle.loads(pickle.dumps(earlier))
    assert vars(read).keys() == vars(now).keys()
    for found in (read, pickle.loads(pickle.dumps(now))):
        assert found.tensors().keys() == now.tensors().keys()
        assert all(torch.equal(found.tensors()[key], each) for key, each in now.tensors().items())
