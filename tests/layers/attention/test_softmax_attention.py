"""Scores of queries and keys, against a loop over heads."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin.layers.attention.softmax_attention import attention_scores


@pytest.mark.parametrize("queries", [1, 2, 7])
def test_scores_are_of_each_head(queries: int) -> None:
    torch.manual_seed(0)
    packed = torch.randn(3, 7, 3, 4, 5, dtype=torch.float64)  # As a tower's queries, keys and values lie in memory.
    q, key = packed[:, :queries, 0], packed[:, :, 1]
    scores = attention_scores(q, key)
    assert scores.shape == (3, 4, queries, 7)
    for head in range(4):
        expected = torch.stack([q[b, :, head] @ key[b, :, head].T / 5**0.5 for b in range(3)])
        torch.testing.assert_close(scores[:, head], expected, rtol=1e-13, atol=1e-13)
