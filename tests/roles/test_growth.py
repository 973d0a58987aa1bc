"""Heads with a role as the pool grows: the planted one appears, and turned pools have none."""

from __future__ import annotations

import pandas as pd
import pytest

from clip_lens_plugin import RoleGrowth, head_roles, role_growth
from tests.roles.planted import HEAD, planted, random_model


@pytest.fixture(scope="module")
def world():
    model = random_model()
    return model, *planted(model)


def test_it_is_what_head_roles_finds_on_each_drawn_pool(world):
    model, parts, pool, embeddings = world
    asked = {"heads": [HEAD, (0, 0)], "text_embeddings": embeddings, "n_nulls": 19, "n_bootstraps": 3}
    found = role_growth(model, parts, pool, [4, 60], **asked, repeats=2)
    assert isinstance(found, RoleGrowth)
    assert len(found) == 2 * 2 * 2
    assert set(found["heads"]) == {2}
    own = found[found["pool"] == "own"].groupby("texts")["with_role"].sum()
    turned = found[found["pool"] == "turned"]
    assert own[60] == 2
    assert own[4] <= own[60]
    assert turned[turned["texts"] == 60]["with_role"].sum() == 0
    whole = head_roles(model, parts, pool, **asked)
    explained = found[(found["pool"] == "own") & (found["texts"] == 60)]["explained"]
    assert explained.tolist() == pytest.approx([whole.explained] * 2)
    assert float(turned["explained"].max()) < whole.explained
    again = role_growth(model, parts, pool, [4], **asked, repeats=1)
    pd.testing.assert_frame_equal(pd.DataFrame(found)[:2], pd.DataFrame(again))


def test_sizes_are_checked_or_halved_from_the_whole(world):
    model, parts, pool, embeddings = world
    asked = {"heads": [HEAD], "text_embeddings": embeddings, "n_nulls": 19, "n_bootstraps": 0, "repeats": 1}
    assert sorted(set(role_growth(model, parts, pool, **asked)["texts"])) == [7, 15, 30, 60]
    for sizes in ([1], [61], []):
        with pytest.raises(ValueError, match=r"sizes must be numbers of texts from 2, .* to 60"):
            role_growth(model, parts, pool, sizes, **asked)
    with pytest.raises(ValueError, match="repeats must be"):
        role_growth(model, parts, pool, **{**asked, "repeats": 0})
