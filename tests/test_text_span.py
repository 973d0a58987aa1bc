"""TextSpan picks what the paper's Algorithm 1 picks on the images themselves."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, Moments, TextPool, text_span
from tests.conftest import random_clip, random_images
from tests.reference import plain_text_span


@pytest.mark.parametrize("n_images", [200, 7])  # 7 images span less than the 12 dimensions of a head
def test_same_texts_in_the_same_order_as_algorithm_1(model, n_images):
    contributions = model.decompose(random_images(model, n_images))
    pool = TextPool.from_strings(TextPool.general().texts[::12])
    embeddings = model.encode_text(pool.texts)
    result = text_span(model, Moments.from_contributions(contributions), pool, 12, "all", embeddings)
    assert len(result) == 12
    for span in result:
        found = contributions.heads[:, span.layer, span.head]
        picks, shares = plain_text_span(found, embeddings, 12)
        assert span.indices == picks
        assert span.texts == [pool.texts[i] for i in picks]
        assert span.explained_variance == pytest.approx(shares, abs=1e-9)
        assert span.total_variance == pytest.approx(found.var(0, unbiased=False).sum().item())


def test_planted_directions_are_found():
    """A head that writes two known texts, one more than the other, is described by them, strongest first."""
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))
    contributions = model.decompose(random_images(model, 2))
    head_map = contributions.readout.head_map(2, 1)
    texts = torch.nn.functional.normalize(torch.randn(50, 24, dtype=torch.float64), dim=-1)
    span = torch.linalg.svd(head_map).Vh[:12]
    texts[[7, 30]] = torch.nn.functional.normalize(span[:2] + 0.1 * span[2:4], dim=-1)
    strength = torch.randn(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    written = (strength * torch.tensor([1.0, 3.0], dtype=torch.float64)) @ texts[[7, 30]]
    y = torch.zeros(400, 3, 4, 12, dtype=torch.float64)
    y[:, 2, 1] = written @ torch.linalg.pinv(head_map)
    moments = Moments(400, y.sum(0), torch.einsum("blhi,blhj->lhij", y, y))
    pool = TextPool.from_strings([f"text {i}" for i in range(50)])
    found = text_span(model, moments, pool, heads=[(2, 1)], text_embeddings=texts)[2, 1]
    assert found.texts == ["text 30", "text 7"]
    assert found.explained_variance[-1] == pytest.approx(1.0)


def test_a_head_that_writes_a_constant_has_no_texts(model):
    contributions = model.decompose(random_images(model, 1))
    moments = Moments.from_contributions(contributions)
    span = text_span(model, moments + moments, ["a dog", "a cat"], heads=[(0, 0)])[0, 0]
    assert span.texts == []
    assert span.total_variance == pytest.approx(0, abs=1e-12)


def test_result_is_addressed_by_head_and_tabulated(model):
    moments = Moments.from_contributions(model.decompose(random_images(model, 20)))
    result = text_span(model, moments, ["a dog", "a cat", "a tree"], n_directions=2, heads=[(1, 0), (-1, 3)])
    assert result.heads == [(1, 0), (2, 3)]
    assert result[-1, 3] is result[2, 3]
    frame = result.to_dataframe()
    assert list(frame["rank"]) == [1, 2, 1, 2]
    assert frame.loc[2, "text"] == result[2, 3].texts[0]
    with pytest.raises(KeyError, match="not run on layer 0"):
        result[0, 0]


def test_bad_arguments_are_refused(model):
    moments = Moments.from_contributions(model.decompose(random_images(model, 2)))
    other = HookedCLIP.from_open_clip(random_clip({"vision_cfg": {"layers": 2}}, torch.float64))
    with pytest.raises(ValueError, match="Collect them with this model"):
        text_span(other, moments, ["a dog"])
    with pytest.raises(ValueError, match="at least 1"):
        text_span(model, moments, ["a dog"], n_directions=0)
    with pytest.raises(ValueError, match="at least two images"):
        text_span(model, Moments.from_contributions(model.decompose(random_images(model, 1))), ["a dog"])
    with pytest.raises(IndexError, match="layers 0 to 2"):
        text_span(model, moments, ["a dog"], heads=[(5, 0)])
    with pytest.raises(ValueError, match="at least one text"):
        text_span(model, moments, [])
