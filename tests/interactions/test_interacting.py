"""Cosines as sums over image parts and text parts, against products of the parts themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clip_lens_plugin import HookedCLIP, Moments, TextPool, collect, decompose_text, interaction
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.interactions.interacting import TERMS
from clip_lens_plugin.model.inputs.pixels import PixelError
from clip_lens_plugin.scenes import ScenesDataset, draw, sample_scenes
from clip_lens_plugin.statistics.means import ComponentSums
from tests.conftest import random_images
from tests.support.text_families import TEXT_FAMILIES, some_ids

pytestmark = pytest.mark.slow

TEXTS = ["red circle", "two small blue stars on a white background"]
POOL = TextPool(["red circle", "blue star", "a green square", "two small circles"])


@pytest.fixture(scope="module")
def scenes() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu", dtype=torch.float64)


@pytest.fixture(scope="module")
def pictures():
    return [draw(each) for each in sample_scenes(9, seed=1)]


@pytest.fixture(scope="module")
def found(scenes, pictures):
    return interaction(scenes, pictures[:3], TEXTS)


@pytest.fixture(scope="module")
def centred(scenes, pictures):
    return interaction(scenes, pictures[:3], TEXTS, centred=(pictures, POOL))


@pytest.mark.parametrize("name", TEXT_FAMILIES)
def test_the_cosine_is_the_sum(name):
    """Of every kind of text tower, beside plain image towers and such that pool by attention."""
    clip = TEXT_FAMILIES[name]().double()
    model, ids = HookedCLIP.from_open_clip(clip), some_ids(2)
    found = interaction(model, random_images(model, 2), ids)
    with torch.no_grad():
        unit = [nn.functional.normalize(each, dim=-1) for each in (model(random_images(model, 2)), model.text(ids))]
    torch.testing.assert_close(found.layers().sum((2, 3)), unit[0] @ unit[1].T, rtol=0, atol=1e-12)
    assert found.error() < 1e-12


def test_every_table_is_that_of_the_parts(scenes, pictures, found):
    torch.testing.assert_close(found.layers().sum((2, 3)), found.cosine, rtol=0, atol=1e-12)
    clip = scenes.clip
    with torch.no_grad():
        image = clip.encode_image(scenes.prepare(pictures[:3]).double(), normalize=True)
        text = clip.encode_text(scenes.tokenizer(TEXTS), normalize=True)
    torch.testing.assert_close(found.cosine, image @ text.T)
    images, texts = found.images, found.texts
    heads = found.heads()
    for b, t, l, h, m, g in [(0, 0, 5, 7, 1, 3), (2, 1, 3, 0, 0, 2)]:
        torch.testing.assert_close(heads[b, t, l, h, m, g], images.heads[b, l, h] @ texts.heads[t, m, g])
    tokens = found.tokens()
    torch.testing.assert_close(tokens.sum((2, 3)), heads.sum((2, 3, 4, 5)))
    every = torch.stack([images.tokens(l, h) for l in range(6) for h in range(8)]).sum(0)
    its = torch.stack([texts.tokens(m, g) for m in range(2) for g in range(4)]).sum(0)
    torch.testing.assert_close(tokens[1, 0, 7, 2], every[1, 7] @ its[0, 2])
    for t, words in enumerate(found.words()):
        assert words.shape == (3, 50, len(texts.spelt[t].words))
        torch.testing.assert_close(words.sum(2), tokens[:, t].sum(2))
    layer = found.image_parts.index("L3 attn"), found.text_parts.index("L1 mlp")
    expected = (images.heads[:, 3].sum(1) + images.attn_bias[:, 3]) @ texts.mlps[:, 1].T
    torch.testing.assert_close(found.layers()[:, :, layer[0], layer[1]], expected)


def test_four_terms_sum_to_the_cosine(scenes, pictures, centred):
    terms = centred.terms()
    assert len(TERMS) == terms.shape[-1] == 4
    torch.testing.assert_close(terms.sum(-1), centred.cosine, rtol=0, atol=1e-12)
    images = scenes.decompose(pictures).normalized().embedding.mean(0)
    texts = scenes.encode_text(list(POOL.texts)).mean(0)
    torch.testing.assert_close(terms[..., 0], (images @ texts).expand(3, 2))
    own, its = centred.images.embedding - images, centred.texts.embedding - texts
    torch.testing.assert_close(terms[..., 3], own @ its.T)
    torch.testing.assert_close(terms[..., 1], (its @ images).expand(3, 2))
    torch.testing.assert_close(centred.layers().sum((2, 3)), terms[..., 3], rtol=0, atol=1e-12)
    assert centred.error() < 1e-12


def test_heads_are_centred_by_what_each_puts_out_on_average(scenes, pictures, centred):
    images = scenes.decompose(pictures).normalized()
    own = images.heads[:3] - images.heads.mean(0)
    texts = decompose_text(scenes, list(POOL.texts)).normalized().heads.mean(0)
    its = centred.texts.heads - texts
    torch.testing.assert_close(centred.heads()[1, 1, 4, 2, 1, 0], own[1, 4, 2] @ its[1, 1, 0])


def test_means_may_be_a_store_sums_or_moments(scenes, pictures, centred, tmp_path):
    dataset = ScenesDataset(9, 1)
    store = collect(scenes, dataset, tmp_path / "store", progress=False)
    assert isinstance(store, ContributionStore)
    own = scenes.decompose(pictures)
    for means in (store, str(tmp_path / "store"), own, ComponentSums.of(own)):
        again = interaction(scenes, centred.images, centred.texts, centred=(means, decompose_text(scenes, POOL.texts)))
        torch.testing.assert_close(again.terms(), centred.terms(), rtol=1e-4, atol=1e-5)
    by_moments = interaction(scenes, centred.images, centred.texts, centred=(Moments.of(own), POOL))
    torch.testing.assert_close(by_moments.heads(), centred.heads())
    assert "Moments of 9 images" in repr(by_moments)
    with pytest.raises(ValueError, match="Moments of 9 images do not say the mean embedding"):
        by_moments.terms()


def test_it_prints_and_is_a_table(found, centred):
    assert repr(found).startswith("Interaction(images=3, texts=2, cosines ")
    assert "centred by Means of 9 images and Means of 4 texts" in repr(centred)
    table = found.to_dataframe()
    assert list(table.columns) == ["image", "text", "image_part", "text_part", "value"]
    sums = table.groupby(["image", "text"], sort=False)["value"].sum().to_numpy().reshape(3, 2)
    torch.testing.assert_close(torch.tensor(sums), found.cosine, rtol=0, atol=1e-12)


def test_hooks_on_either_side_are_taken_apart_too(scenes, pictures, found):
    def none(z, hook):
        z = z.clone()
        z[:, :, 0] = 0
        return z

    with scenes.text.hooks(fwd_hooks=[("blocks.1.attn.hook_z", none)]):
        without = interaction(scenes, pictures[:3], TEXTS)
    assert without.error() < 1e-12
    assert float(without.heads()[..., 1, 0].abs().max()) == 0.0
    assert not torch.allclose(without.cosine, found.cosine)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"centred": "store"}, "centred must be two"),
        ({"centred": ([], POOL)}, "image"),
        ({"centred": (None, "a dog")}, "several of them"),
    ],
)
def test_what_cannot_be_is_refused(scenes, pictures, given, message):
    if given["centred"][0] is None:
        given = {"centred": (pictures, "a dog")}
    with pytest.raises(ValueError, match=message):
        interaction(scenes, pictures[:1], TEXTS, **given)


def test_constants_that_are_shared_out_are_refused(scenes, pictures):
    shared = scenes.decompose(pictures[:1], constants="shared", tokens=True)
    with pytest.raises(ValueError, match="share their constants"):
        interaction(scenes, shared, TEXTS)


def test_broken_pixels_are_refused_and_their_image_named(scenes, pictures):
    broken = scenes.prepare(pictures[:3])
    broken[1, 0, 0, 0] = float("nan")
    with pytest.raises(PixelError, match="1"):
        interaction(scenes, broken, TEXTS)
