"""TextSpan picks what the paper's Algorithm 1 picks on the images themselves."""

from __future__ import annotations

import warnings

import pytest
import torch
from jaxtyping import TypeCheckError

from clip_lens_plugin import HookedCLIP, Moments, TextPool, text_span
from clip_lens_plugin.scenes import draw, sample_scenes
from tests.conftest import random_clip, random_images
from tests.support.reference import plain_text_span, published_text_span

pytestmark = pytest.mark.slow


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
    with pytest.warns(UserWarning, match=r"same for all 2 images.*layer 0, head 0\."):
        span = text_span(model, moments + moments, ["a dog", "a cat"], heads=[(0, 0)])[0, 0]
    assert span.texts == span.indices == span.explained_variance == []
    assert span.total_variance == 0
    assert span.directions.shape == (0, 24)


@pytest.mark.parametrize("constants", ["separate", "shared"])
def test_one_image_many_times_has_no_texts(scenes, constants):
    """In batches of different sizes its contributions differ by rounding, which is no variance."""
    image = scenes.prepare([draw(sample_scenes(1, seed=3)[0])])
    parts = [
        Moments.from_contributions(scenes.decompose(image.expand(n, -1, -1, -1), constants=constants).normalized())
        for n in (1, 2, 7, 16)
    ]
    moments = sum(parts[1:], parts[0])
    with pytest.warns(UserWarning, match=r"same for all 26 images.* and 45 more"):
        result = text_span(scenes, moments, ["a red circle", "a dog"], heads="all")
    assert all(span.texts == [] and span.total_variance == 0 for span in result)


def test_directions_in_which_images_differ_by_rounding_alone_are_no_data(model):
    """A head that varies in two directions, and elsewhere by less than the noise of its dtype, has two texts."""
    contributions = model.decompose(random_images(model, 2))
    head_map = contributions.readout.head_map(1, 2)
    axes = torch.linalg.svd(head_map).Vh[:12] @ torch.linalg.pinv(head_map)
    generator = torch.Generator().manual_seed(0)
    strength = torch.randn(300, 12, dtype=torch.float64, generator=generator)
    for noise, expected in ((1e-4, 2), (1e-7, 12)):
        scale = torch.full((12,), 1e-5, dtype=torch.float64)
        scale[:2] = 1.0
        y = torch.zeros(300, 3, 4, 12, dtype=torch.float64)
        y[:, 1, 2] = (strength * scale) @ axes
        moments = Moments(300, y.sum(0), torch.einsum("blhi,blhj->lhij", y, y), noise=noise)
        texts = torch.nn.functional.normalize(torch.randn(60, 24, dtype=torch.float64, generator=generator), dim=-1)
        names = [str(i) for i in range(60)]
        assert len(text_span(model, moments, names, 12, [(1, 2)], texts)[1, 2].texts) == expected


@pytest.fixture(scope="module")
def scenes() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu")


def test_the_published_script_is_reproduced_from_moments(scenes):
    """Its constants shared out, at the rank of the data: same texts, same order, in all late heads."""
    images = scenes.prepare([draw(scene) for scene in sample_scenes(200, seed=21)])
    pool = TextPool.scenes()
    embeddings = scenes.encode_text(pool.texts).double()
    exact = HookedCLIP.from_pretrained("scenes", device="cpu").double()
    contributions = exact.decompose(images.double(), batch_size=50, constants="shared").normalized()
    moments = Moments.from_contributions(contributions)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = text_span(exact, moments, pool, 60, text_embeddings=embeddings, rank=19)
    with pytest.warns(UserWarning, match=r"rank=80 was cut to 19 for 32 of 32 heads"):
        cut = text_span(exact, moments, pool, 60, text_embeddings=embeddings, constants="spread", rank=80)
    single = scenes.decompose(images, batch_size=50, constants="shared").normalized()
    of_single = text_span(scenes, Moments.from_contributions(single), pool, 10, text_embeddings=embeddings, rank=19)
    heads, noise = contributions.heads, torch.Generator().manual_seed(0)
    agrees = {19: 0, 80: 0}
    for span in result:
        key = span.layer, span.head
        rows = heads[:, span.layer, span.head]
        expected = published_text_span(rows, embeddings, 19, 19)
        assert span.indices == expected
        assert cut[key].indices == expected
        assert of_single[key].indices == expected[:10]
        shaken = rows + 1e-7 * torch.randn(rows.shape, generator=noise, dtype=torch.float64)
        for rank in agrees:
            first = published_text_span(rows, embeddings, 10, rank)
            agrees[rank] += published_text_span(shaken, embeddings, 10, rank) == first
    assert len(result) == 32
    assert agrees[19] > 28
    assert agrees[80] < 8  # 61 of the 80 axes are rounding, so the script does not agree with itself.


def test_a_lower_rank_is_that_of_the_script(model):
    contributions = model.decompose(random_images(model, 40), constants="shared")
    pool = TextPool.from_strings(TextPool.general().texts[::12])
    embeddings = model.encode_text(pool.texts)
    result = text_span(model, Moments.from_contributions(contributions), pool, 60, "all", embeddings, rank=5)
    assert result.constants == "shared"
    for span in result:
        rows = contributions.heads[:, span.layer, span.head]
        assert span.indices == published_text_span(rows, embeddings, 5, 5)
        assert span.total_variance == pytest.approx(rows.var(0, unbiased=False).sum().item())
        assert span.explained_variance[-1] < 0.99


def test_result_is_addressed_by_head_and_tabulated(model):
    moments = Moments.from_contributions(model.decompose(random_images(model, 20)))
    result = text_span(model, moments, ["a dog", "a cat", "a tree"], n_directions=2, heads=[(1, 0), (-1, 3)])
    assert result.heads == [(1, 0), (2, 3)]
    assert text_span(model, moments, ["a dog"], heads=[(-2, -4)]).heads == [(1, 0)]
    assert result[-1, 3] is result[2, 3]
    frame = result.to_dataframe()
    assert list(frame["rank"]) == [1, 2, 1, 2]
    assert frame.loc[2, "text"] == result[2, 3].texts[0]
    with pytest.raises(KeyError, match=r"not run on layer 0, head 0; it has 2 .* pairs: \(1, 0\), \(2, 3\)'"):
        result[0, 0]
    many = text_span(model, moments, ["a dog"], heads=[(l, h) for l in (1, 2) for h in range(4)])
    with pytest.raises(KeyError, match=r"it has 8 .* pairs: \(1, 0\), \(1, 1\), \(1, 2\), \(1, 3\), \.\.\.'"):
        many[0, 0]


def test_bad_arguments_are_refused(model):
    moments = Moments.from_contributions(model.decompose(random_images(model, 2)))
    other = HookedCLIP.from_open_clip(random_clip({"vision_cfg": {"layers": 2}}, torch.float64))
    with pytest.raises(ValueError, match="Collect them with this model"):
        text_span(other, moments, ["a dog"])
    with pytest.raises(ValueError, match="at least 1"):
        text_span(model, moments, ["a dog"], n_directions=0)
    with pytest.raises(ValueError, match="at least two images"):
        text_span(model, Moments.from_contributions(model.decompose(random_images(model, 1))), ["a dog"])
    with pytest.raises(IndexError, match="no layer 5"):
        text_span(model, moments, ["a dog"], heads=[(5, 0)])
    with pytest.raises(ValueError, match="at least one"):
        text_span(model, moments, ["a dog"], heads=[])
    with pytest.raises(ValueError, match="row 1 holds NaN"):
        text_span(model, moments, ["a", "b"], text_embeddings=torch.tensor([[0.2] * 24, [float("nan")] * 24]))
    with pytest.raises(ValueError, match=r"must be \[texts, 24\]"):
        text_span(model, moments, ["a"], text_embeddings=torch.ones(1, 20))
    with pytest.raises(ValueError, match="rank must be a whole number of at least 1"):
        text_span(model, moments, ["a dog"], rank=0)
    # Where signatures are checked, as in these tests, a float does not even reach the function.
    with pytest.raises((ValueError, TypeCheckError), match=r"n_directions"):
        text_span(model, moments, ["a dog"], n_directions=2.5)
    with pytest.raises(ValueError, match=r"constants='separate', but constants='shared' was asked"):
        text_span(model, moments, ["a dog"], constants="shared")
    with pytest.raises((ValueError, TypeCheckError), match="smeared"):
        text_span(model, moments, ["a dog"], constants="smeared")
    with pytest.raises(ValueError, match="one or more texts"):
        text_span(model, moments, [])
