"""Matching pursuit of heads on moments picks what it picks on the rows themselves."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, Moments, TextPool, somp
from tests.conftest import random_clip, random_images
from tests.support.reference import plain_somp

N_TEXTS = 120


@pytest.fixture(scope="module")
def world():
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))
    contributions = model.decompose(random_images(model, 40))
    rows = torch.randn(N_TEXTS, 24, generator=torch.Generator().manual_seed(3)).double()
    pool = TextPool([f"text {i}" for i in range(N_TEXTS)])
    return model, contributions, pool, torch.nn.functional.normalize(rows, dim=-1)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("project", [True, False])
def test_moments_pick_what_rows_pick(world, centred, project) -> None:
    model, contributions, pool, embeddings = world
    options = {"centred": centred, "project": project}
    found = somp(
        model, Moments.from_contributions(contributions), pool, 6, "all", text_embeddings=embeddings, **options
    )
    assert len(found) == 12
    for span in found:
        picks, shares, norms = plain_somp(contributions.heads[:, span.layer, span.head], embeddings, 6, **options)
        assert span.indices == picks
        assert span.explained_variance == pytest.approx(shares, abs=1e-9)
        assert span.projected_norms == pytest.approx(norms, abs=1e-9)
        assert span.centred is centred
        assert torch.allclose(span.directions @ span.directions.T, torch.eye(6, dtype=torch.float64), atol=1e-9)


def test_the_twentieth_part_with_least_in_the_span_is_left_out(world) -> None:
    """A text that has next to nothing in the span, but along the head's first axis, is not scaled up and picked."""
    model, contributions, pool, embeddings = world
    rows = contributions.heads[:, 2, 1]
    axis = torch.linalg.svd(rows - rows.mean(0)).Vh[0]
    outside = torch.linalg.svd(rows, full_matrices=True).Vh[-1]
    odd = embeddings.clone()
    odd[7] = torch.nn.functional.normalize(outside + 1e-4 * axis, dim=0)
    asked = {"n": 3, "heads": [(2, 1)], "text_embeddings": odd}
    assert 7 not in somp(model, contributions, pool, **asked)[2, 1].indices
    few = TextPool(pool.texts[:8])  # Of few texts none is left out.
    asked["text_embeddings"] = odd[:8]
    span = somp(model, contributions, few, **asked)[2, 1]
    assert span.indices[0] == 7
    assert span.projected_norms is not None
    assert span.projected_norms[0] == pytest.approx(1e-4, rel=1e-3)


def test_it_says_what_it_is(world) -> None:
    model, contributions, pool, embeddings = world
    found = somp(model, contributions, pool, 2, [(1, 2), (0, 3)], centred=False, text_embeddings=embeddings)
    assert "SOMP" in repr(found)
    assert "of its mean square" in repr(found[1, 2])
    assert list(found.to_dataframe().columns)[-2:] == ["explained_variance", "projected_norm"]
    with pytest.raises(KeyError, match="SOMP was not run on layer 2"):
        found[2, 0]


def test_what_cannot_be_asked_is_refused(world) -> None:
    model, contributions, pool, embeddings = world
    with pytest.raises(ValueError, match="n must be a whole number of at least 1"):
        somp(model, contributions, pool, 0, text_embeddings=embeddings)
    with pytest.raises(ValueError, match="at least two images, got 1"):
        somp(model, contributions.select([0]), pool, text_embeddings=embeddings)
    one = Moments.from_contributions(contributions.select([0]))
    with pytest.warns(UserWarning, match="same for all 2 images"):
        assert somp(model, one + one, pool, 2, [(0, 0)], text_embeddings=embeddings)[0, 0].texts == []
