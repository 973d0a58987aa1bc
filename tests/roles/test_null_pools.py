"""Turned pools keep similarities, mirrored ones the mean and the covariance; both are drawn without a preference."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin.roles.null_pools import mirrored_pool, random_signs, random_turn, turned_pool

TEXTS = torch.nn.functional.normalize(
    torch.randn(40, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5, dim=-1
)
WHOLE = torch.eye(10, dtype=torch.float64)


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:4]], ids=["many", "few"])
def test_a_turned_pool_keeps_every_similarity(texts):
    null = turned_pool(texts)
    turns = null.draw(torch.Generator().manual_seed(1))
    found = null.seen_by(WHOLE).turned(turns, null.quarters(turns))
    for each, turn in zip(found, turns.each(), strict=True):
        assert torch.allclose(turn @ turn.T, WHOLE, atol=1e-12)
        assert torch.allclose(each.double(), texts @ turn, atol=1e-6)
        assert torch.allclose(each.double() @ each.double().T, texts @ texts.T, atol=1e-6)
    assert float((found[1] - found[2]).abs().max()) > 0.1


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:4]], ids=["many", "few"])
def test_a_mirrored_pool_keeps_its_mean_and_covariance(texts):
    null = mirrored_pool(texts)
    turns = null.draw(torch.Generator().manual_seed(1))
    size = min(10, len(texts) - 1)
    left, values, axes = torch.linalg.svd(texts - texts.mean(0), full_matrices=False)
    for each, turn in zip(null.seen_by(WHOLE).turned(turns, null.quarters(turns)), turns.each(), strict=True):
        assert torch.equal(turn.abs(), torch.eye(size, dtype=torch.float64))
        plain = texts.mean(0) + (left * values)[:, :size] @ turn @ axes[:size]
        assert torch.allclose(each.double(), plain, atol=1e-6)
        assert torch.allclose(each.double().mean(0), texts.mean(0), atol=1e-6)
        assert torch.allclose(torch.cov(each.double().T), torch.cov(texts.T), atol=1e-6)


def test_directions_see_what_lies_along_them():
    axes = torch.randn(10, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for null in (turned_pool(TEXTS), mirrored_pool(TEXTS)):
        turns = null.draw(torch.Generator().manual_seed(4))
        quarters = null.quarters(turns)
        whole, seen = (null.seen_by(directions).turned(turns, quarters) for directions in (WHOLE, axes))
        for some, every in zip(seen, whole, strict=True):
            assert torch.allclose(some, every @ axes.float(), atol=1e-5)


def test_any_three_of_four_mirrored_draws_are_independent():
    """Each of the eight triples of signs of an axis is as frequent, in every choice of three draws."""
    null, g = mirrored_pool(TEXTS), torch.Generator().manual_seed(2)
    signs = torch.stack([torch.stack(null.draw(g).each()).diagonal(dim1=1, dim2=2) for _ in range(500)])
    for left_out in range(4):
        three = [draw for draw in range(4) if draw != left_out]
        code = ((signs[:, three] > 0).long() * torch.tensor([1, 2, 4])[:, None]).sum(1)
        shares = torch.bincount(code.flatten(), minlength=8) / code.numel()
        assert torch.allclose(shares, torch.full((8,), 0.125), atol=0.02)


def test_turns_are_orthogonal_and_prefer_nothing():
    """Of Haar's measure the trace has mean 0 and variance 1, and each entry the variance 1 / n."""
    g = torch.Generator().manual_seed(7)
    turns = torch.stack([random_turn(5, g) for _ in range(3000)])
    assert torch.allclose(turns[0] @ turns[0].T, torch.eye(5, dtype=torch.float64), atol=1e-12)
    traces = turns.diagonal(dim1=1, dim2=2).sum(1)
    assert abs(float(traces.mean())) < 0.06
    assert float(traces.var()) == pytest.approx(1.0, abs=0.1)
    assert torch.allclose(turns.square().mean(0), torch.full((5, 5), 0.2).double(), atol=0.03)
    signs = torch.stack([random_signs(5, g) for _ in range(3000)])
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    assert float(signs.mean(0).abs().max()) < 0.06
