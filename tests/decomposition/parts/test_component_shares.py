"""Shares of components against a loop over every component in float64."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.parts.component_shares import ShareStatistics
from tests.conftest import random_images

pytestmark = pytest.mark.slow

N = 7


def looped(contributions: Contributions) -> dict[str, np.ndarray]:
    """Label of ``stack`` to each image's c · M / ‖M‖²."""
    parts, labels = contributions.stack()
    whole = contributions.embedding.double()
    return {
        label: np.array([float(parts[i, j].double() @ m) / float(m @ m) for i, m in enumerate(whole)])
        for j, label in enumerate(labels)
    }


def label_of(row: dict) -> str:
    if row["part"] == "head":
        return f"L{row['layer']}H{row['head']}"
    return row["part"] if pd.isna(row["layer"]) else f"{row['layer']}_{row['part']}"


@pytest.mark.parametrize("constants", ["separate", "shared"])
@pytest.mark.parametrize("unit", ["embedding", "cosine"])
def test_shares_are_those_of_a_plain_loop(tower, constants, unit):
    c = tower.decompose(random_images(tower, N), constants=constants)
    c = c.normalized() if unit == "cosine" else c
    table, expected = c.shares(), looped(c)
    assert list(table.columns) == ["part", "layer", "head", "share_mean", "share_std"]
    assert table["share_mean"].sum() == pytest.approx(1, abs=1e-6)
    by_label = {label_of(row): row for row in table.to_dict("records")}
    assert by_label.keys() == expected.keys()
    for label, values in expected.items():
        assert by_label[label]["share_mean"] == pytest.approx(values.mean(), abs=1e-6)
        assert by_label[label]["share_std"] == pytest.approx(values.std(), abs=1e-6)


def test_shares_of_each_image(model):
    c = model.decompose(random_images(model, N))
    table = c.shares(per_image=True)
    assert list(table.columns) == ["row", "part", "layer", "head", "share"]
    np.testing.assert_allclose(table.groupby("row")["share"].sum(), np.ones(N), atol=1e-9)
    for row in table[table["row"] == 3].to_dict("records"):
        assert row["share"] == pytest.approx(looped(c)[label_of(row)][3], abs=1e-9)


def test_what_hooks_did_is_a_share_too(model):
    def push(x, hook):
        return x + 0.5 * torch.arange(x.shape[-1], dtype=x.dtype) / x.shape[-1]

    hooks = [("blocks.1.hook_resid_mid", push), ("blocks.2.attn.hook_result", push)]
    with model.hooks(fwd_hooks=hooks):
        c = model.decompose(random_images(model, N))
    table = c.shares()
    assert table["share_mean"].sum() == pytest.approx(1, abs=1e-9)
    expected = looped(c)
    for row in table.to_dict("records"):
        assert row["share_mean"] == pytest.approx(expected[label_of(row)].mean(), abs=1e-9)
    assert abs(table.set_index(["part", "layer"])["share_mean"]["edits", 1].item()) > 1e-4


def test_tables_of_blocks_are_those_of_all_images(model):
    c = model.decompose(random_images(model, N))
    found = ShareStatistics.of([c.select(range(0, 3)), c.select(range(3, 4)), c.select(range(4, N))])
    pd.testing.assert_frame_equal(found.by_component(), c.shares())
    layers, heads = found.by_layer(), found.by_head()
    assert layers["share_mean"].sum() == pytest.approx(1, abs=1e-9)
    together = sum(looped(c)[f"L1H{h}"] for h in range(4))
    row = layers[(layers["part"] == "heads") & (layers["layer"] == 1)].iloc[0]
    assert (row["share_mean"], row["share_std"]) == pytest.approx((together.mean(), together.std()), abs=1e-9)
    assert len(heads) == 12
    with pytest.raises(ValueError, match="no images"):
        ShareStatistics.of([])
