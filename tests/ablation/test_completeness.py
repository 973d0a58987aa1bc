"""Heads replaced by their projections on texts, against the projection written out."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import Moments, TextPool, text_span
from clip_lens_plugin.ablation import random_directions, text_span_completeness
from tests.conftest import random_images

pytestmark = pytest.mark.slow


@pytest.fixture(params=["separate", "shared"])
def measured(model, request):
    contributions = model.decompose(random_images(model, 40), constants=request.param).normalized()
    unit = contributions.embedding
    classes = torch.nn.functional.normalize(unit - unit.mean(0), dim=-1)[:5]
    noise = 0.02 * torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    pool, vectors = random_directions(model, 60, seed=3)
    heads = [(1, 0), (2, 3)]
    moments = Moments.from_contributions(contributions)
    span = text_span(model, moments, pool, 10, heads, text_embeddings=vectors)
    return contributions, classes, (unit @ classes.T + noise).argmax(-1), vectors, span


def test_accuracy_is_that_of_the_projections_written_out(measured):
    c, classes, labels, vectors, span = measured
    table = text_span_completeness(c, classes, {"random": span}, labels, n_texts=(2, 5))

    def accuracy(embedding: torch.Tensor) -> float:
        return ((embedding @ classes.T).argmax(-1) == labels).double().mean().item()

    mean = c.heads.mean(0)
    without = c.embedding - (c.heads - mean).sum((1, 2))
    described = {key: c.heads[:, *key] - mean[key] for key in span.heads}
    expected = {("model", 0): c.embedding, ("all directions", 0): without + sum(described.values())}
    for m in (2, 5):
        expected["random", m] = without.clone()
        for key, away in described.items():
            # The texts as the head can spell them: projected on the row space of its contributions.
            rows = torch.linalg.svd(c.heads[:, *key], full_matrices=False)
            basis = rows.Vh[1e-9 * rows.S.max() < rows.S]
            texts = vectors[span[key].indices[:m]] @ basis.T @ basis
            q, _ = torch.linalg.qr(texts.T)
            expected["random", m] += away @ q @ q.T
    for row in table.to_dict("records"):
        assert row["accuracy"] == pytest.approx(accuracy(expected[row["pool"], row["n_texts"]])), row
        assert row["low"] <= row["accuracy"] <= row["high"]
    assert len(table) == 4
    assert table["accuracy"].nunique() > 1


def test_directions_are_orthonormal_and_hold_the_explained_variance(measured):
    c, _, _, _, span = measured
    for each in span:
        d = each.directions
        torch.testing.assert_close(d @ d.T, torch.eye(len(d), dtype=d.dtype), atol=1e-9, rtol=0)
        away = c.heads[:, each.layer, each.head] - c.heads[:, each.layer, each.head].mean(0)
        along = (away @ d.T).square().sum(0).cumsum(0) / away.square().sum()
        torch.testing.assert_close(along, torch.tensor(each.explained_variance, dtype=along.dtype))


def test_random_directions_are_unit_and_seeded(model):
    (pool, one), (_, same), (_, other) = (random_directions(model, 7, seed) for seed in (1, 1, 2))
    assert len(pool) == 7
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    torch.testing.assert_close(one.norm(dim=-1), torch.ones(7, dtype=one.dtype))


def test_bad_arguments_are_refused(model, measured):
    c, classes, labels, vectors, span = measured
    moments = Moments.from_contributions(c)
    names = TextPool.from_strings([str(i) for i in range(60)])
    other = text_span(model, moments, names, 3, [(0, 0)], text_embeddings=vectors)
    turned = {"separate": "shared", "shared": "separate"}[c.constants]
    mixed = text_span(
        model, Moments.from_contributions(c.with_constants(turned)), names, 3, span.heads, text_embeddings=vectors
    )
    with pytest.raises(ValueError, match="others with them shared out"):
        text_span_completeness(c, classes, {"a": span, "b": mixed}, labels)
    text_span_completeness(c, classes, {"a": mixed}, labels, n_texts=(2,))  # The contributions take its constants.
    with pytest.raises(ValueError, match="same heads"):
        text_span_completeness(c, classes, {"a": span, "b": other}, labels)
    with pytest.raises(ValueError, match="at least 1"):
        text_span_completeness(c, classes, {"a": span}, labels, n_texts=(0, 3))
