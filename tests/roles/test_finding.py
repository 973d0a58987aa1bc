"""Roles of heads: a planted one is found, random pools have none, and the texts are those of TextSpan."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
import torch

from clip_lens_plugin import HeadRoles, Moments, TextPool, head_roles, text_span
from clip_lens_plugin.roles.finding import checked_picks
from clip_lens_plugin.roles.parts import summed
from clip_lens_plugin.roles.result import NONE, ByChance
from tests.conftest import random_images
from tests.roles.planted import HEAD, THEME, of_rows, planted, random_model, random_pool


@pytest.fixture(scope="module")
def world():
    model = random_model()
    return model, *planted(model)


@pytest.fixture(scope="module")
def found(world) -> HeadRoles:
    model, parts, pool, embeddings = world
    return head_roles(model, parts, pool, heads="all", text_embeddings=embeddings, n_bootstraps=20)


def test_the_planted_head_has_its_role_and_is_alone(found):
    own = found[HEAD]
    assert own.role == own.theme == THEME
    assert own.mass == 1.0
    assert (own.consistency, found.n_picks) == (2, 2)
    assert own.explained > 0.9 > own.mirrored.mean > own.turned.mean
    assert own.turned.family_p == own.turned.p == own.mirrored.p == pytest.approx(1 / 201)
    assert own.mass_p == pytest.approx((10 * 9 + 5 * 10 * 9) / (60 * 59), abs=0.06)
    assert own.stability > 0.5
    assert Counter(each.role for each in found) == {NONE: 11, THEME: 1}
    assert found.with_role == (own,)
    assert found.share_with_role == pytest.approx(1 / 12)


def test_the_texts_are_those_of_text_span(world, found):
    model, parts, pool, embeddings = world
    spans = text_span(model, summed(parts), pool, 2, "all", embeddings)
    assert found.heads == spans.heads
    for each, span in zip(found, spans, strict=True):
        assert list(each.indices) == span.indices
        assert list(each.texts) == span.texts
        assert each.explained == span.explained_variance[-1]
    total = sum(span.total_variance for span in spans)
    assert [each.variance_share for each in found] == pytest.approx([span.total_variance / total for span in spans])
    assert sum(each.variance_share for each in found) == pytest.approx(1.0)
    weighted = sum(span.explained_variance[-1] * span.total_variance for span in spans) / total
    assert found.explained == pytest.approx(weighted)


def test_the_same_seed_gives_the_same(world, found):
    model, parts, pool, embeddings = world
    asked = {"heads": [HEAD, (0, 2)], "text_embeddings": embeddings, "n_nulls": 30, "n_bootstraps": 10}
    one, same, other = (head_roles(model, parts, pool, **asked, seed=seed) for seed in (3, 3, 4))
    assert one.roles == same.roles
    assert one.roles != other.roles
    assert one[HEAD].indices == found[HEAD].indices


def test_a_pool_that_says_nothing_gives_no_role(world):
    model, parts, _, _ = world
    pool, embeddings = random_pool(0)
    found = head_roles(model, parts, pool, heads="all", text_embeddings=embeddings, n_nulls=60, n_bootstraps=0)
    assert found.share_with_role == 0.0
    assert "0 of 12 heads have a role; " in repr(found)


def test_of_one_moments_the_stability_is_unknown_and_said(world):
    model, parts, pool, embeddings = world
    found = head_roles(model, summed(parts), pool, heads=[HEAD], text_embeddings=embeddings, n_nulls=30)
    assert math.isnan(found[HEAD].stability)
    assert found[HEAD].role == THEME
    assert found.n_bootstraps == 0
    assert "stability unknown, since one Moments has no parts" in repr(found)
    assert "stability not asked for" in repr(
        head_roles(model, parts, pool, heads=[HEAD], text_embeddings=embeddings, n_nulls=30, n_bootstraps=0)
    )


def test_images_themselves_are_taken(world):
    model, _, pool, embeddings = world
    contributions = model.decompose(random_images(model, 40))
    asked = {"heads": [HEAD], "text_embeddings": embeddings, "n_nulls": 19, "n_bootstraps": 5}
    found = head_roles(model, contributions, pool, **asked)
    kept = head_roles(model, Moments.of(contributions), pool, **asked)
    assert found[HEAD].indices == kept[HEAD].indices
    assert 0.0 <= found[HEAD].stability <= 1.0
    assert found.n_images == 40
    assert "5 bootstraps of 30 parts" in repr(found)


def test_what_makes_a_role():
    null = ByChance(0.5, 0.01, 0.05)
    asked = {"layer": 1, "head": 2, "theme": "red", "mass": 0.4, "mass_p": 0.5, "consistency": 1, "texts": ("a",)}
    from clip_lens_plugin.roles.result import HeadRole

    own = HeadRole(**asked, indices=(3,), explained=0.8, turned=null, mirrored=null, stability=0.5, variance_share=0.1)
    assert own.role == "red"
    assert replace(own, stability=math.nan, mirrored=ByChance(0.9, 0.5, 1.0)).role == "red"
    for less in (
        {"mass": 0.39},
        {"stability": 0.49},
        {"turned": null._replace(family_p=0.051)},
        {"theme": "", "mass": 0.0},
    ):
        assert replace(own, **less).role == NONE


def test_a_head_that_writes_the_same_has_no_role(world):
    model, _, pool, embeddings = world
    y = torch.randn(60, 3, 4, 12, generator=torch.Generator().manual_seed(0)).double()
    y[:, 1, 1] = y[:1, 1, 1]
    asked = {"text_embeddings": embeddings, "n_nulls": 19}
    with pytest.warns(UserWarning, match="same for all 60 images.*layer 1, head 1"):
        found = head_roles(model, of_rows(y), pool, heads=[(1, 1), (0, 0)], **asked)
    still = found[1, 1]
    assert (still.role, still.texts, still.variance_share) == (NONE, (), 0.0)
    assert math.isnan(still.turned.family_p)
    assert found[0, 0].variance_share == 1.0
    with pytest.warns(UserWarning, match="same for all"):
        assert len(head_roles(model, of_rows(y), pool, heads=[(1, 1)], **asked).with_role) == 0


def test_few_images_are_said(world):
    model, _, pool, embeddings = world
    y = torch.randn(7, 3, 4, 12, generator=torch.Generator().manual_seed(0)).double()
    with pytest.warns(UserWarning, match="On these 7 images 1 heads write so few .* layer 0, head 0 writes 7"):
        head_roles(model, of_rows(y), pool, heads=[(0, 0)], text_embeddings=embeddings, n_nulls=19)


def test_it_says_what_it_is(found):
    table = found.to_dataframe()
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 12
    row = table[(table["layer"] == HEAD[0]) & (table["head"] == HEAD[1])].iloc[0]
    own = found[HEAD]
    assert row["role"] == THEME
    assert row["texts"] == "; ".join(own.texts)
    assert row["mirrored_family_p"] == own.mirrored.family_p
    assert f"1 of 12 heads have a role: {THEME} 1" in repr(found)
    assert found[-1, 1] is own
    with pytest.raises(IndexError, match="no layer 7"):
        found[7, 0]


def test_what_cannot_be_asked_is_refused(world):
    model, parts, pool, embeddings = world
    asked = {"text_embeddings": embeddings}
    with pytest.raises(ValueError, match=r"3 texts are a quarter or more of the 12 coordinates.*ask for 2 or fewer"):
        head_roles(model, parts, pool, 3, **asked)
    with pytest.raises(ValueError, match="n must be a whole number of at least 1"):
        head_roles(model, parts, pool, 0, **asked)
    with pytest.raises(ValueError, match="n_nulls must be a whole number of at least 19"):
        head_roles(model, parts, pool, n_nulls=18, **asked)
    with pytest.raises(ValueError, match="No text of the pool has a theme"):
        head_roles(model, parts, TextPool(pool.texts), **asked)
    with pytest.raises(ValueError, match="at least two images, got 1"):
        head_roles(model, of_rows(torch.randn(1, 3, 4, 12).double()), pool, **asked)
    with pytest.raises(ValueError, match="60 texts need as many embeddings"):
        head_roles(model, parts, pool, text_embeddings=embeddings[:5])


@pytest.mark.parametrize(("width", "most", "usual"), [(64, 15, 5), (16, 3, 3), (12, 2, 2), (5, 1, 1)])
def test_texts_are_fewer_than_a_quarter_of_the_coordinates(width, most, usual):
    assert checked_picks(None, width) == usual
    assert checked_picks(most, width) == most < width / 4
    with pytest.raises(ValueError, match=f"ask for {most} or fewer"):
        checked_picks(most + 1, width)
    with pytest.raises(ValueError, match="too narrow for roles"):
        checked_picks(None, 4)
