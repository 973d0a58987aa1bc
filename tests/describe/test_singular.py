"""A head without data: the singular vectors of its map, and their words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lens_plugin import HookedCLIP, TextPool, head_singular_texts, sparse_text
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.describe.singular import singular_vectors
from tests.support.families import FAMILIES

FEW = ("plain", "SigLIP", "EVA-02", "EVA-02, post-norm")


def texts(width: int) -> torch.Tensor:
    rows = torch.randn(50, width, generator=torch.Generator().manual_seed(0)).double()
    return torch.nn.functional.normalize(rows, dim=-1)


@pytest.mark.parametrize("family", FEW)
def test_they_are_those_of_the_full_matrix(family) -> None:
    model = HookedCLIP.from_open_clip(FAMILIES[family]().double())
    readout, block = Readout.of(model), model.blocks[1]
    assert hasattr(block, "ln1") == (family != "EVA-02, post-norm")
    W_V = block.attn.W_V[2].detach().numpy()
    if hasattr(block, "ln1"):
        W_V = block.ln1.w.detach().numpy()[:, None] * W_V
        W_V = W_V - W_V.mean(0)
    maps = readout.head_map(1, 2).numpy().reshape(readout.pooling.n_heads, W_V.shape[1], -1)
    full = np.concatenate([W_V @ each for each in maps])
    left, values, right = np.linalg.svd(full, full_matrices=False)
    found = singular_vectors(readout, 1, 2)
    n = len(found.values)
    assert np.abs(found.values.numpy() - values[:n]).max() < 1e-12
    assert values[n:].max(initial=0.0) < 1e-12
    for ours, theirs in ((found.reads.T[:5], left.T[:5]), (found.writes[:5], right[:5])):
        assert np.abs(np.abs((ours.numpy() * theirs).sum(1)) - 1).max() < 1e-8


def test_each_axis_is_coded_as_a_direction() -> None:
    model = HookedCLIP.from_open_clip(FAMILIES["plain"]().double())
    pool, embeddings = TextPool([f"word {i}" for i in range(50)]), texts(24)
    found = head_singular_texts(model, pool, [(1, 2), (-1, 0)], 2, 0.2, text_embeddings=embeddings)
    assert found.heads == ((1, 2), (1, 2), (2, 0), (2, 0))
    assert found.axes == (0, 1, 0, 1)
    assert found.names[0] == f"layer 1, head 2, axis 0 ({float(found.shares[0]):.0%})"
    again = sparse_text(model, found.writes, pool, 0.2, directions=True, text_embeddings=embeddings)
    assert torch.allclose(again.codes.to_dense(), found.codes.to_dense(), atol=1e-12)
    every = singular_vectors(Readout.of(model), 1, 2).values
    assert float(found.shares[1]) == pytest.approx(float(every[1] ** 2 / (every**2).sum()))
    assert found.reads.shape == (4, 48)
    table = found.to_dataframe()
    assert list(table.columns) == ["layer", "head", "axis", "share", "rank", "text", "weight"]
    assert len(table) == int(found.counts.sum())
    assert repr(found).startswith("HeadSingularTexts(50 texts")


def test_what_cannot_be_asked_is_refused() -> None:
    model = HookedCLIP.from_open_clip(FAMILIES["plain"]().double())
    pool = ["a dog", "a cat"]
    with pytest.raises(ValueError, match="n_axes must be a whole number of at least 1"):
        head_singular_texts(model, pool, "all", 0)
    with pytest.raises(IndexError, match="There is no layer 9"):
        head_singular_texts(model, pool, [(9, 0)])
