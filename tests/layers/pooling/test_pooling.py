"""What is built on contributions holds for every pooling: stores, ablation, maps and TextSpan."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from torch.utils.data import Dataset

from clip_lens_plugin import HookedCLIP, Moments, collect, mean_ablation_curve, patch_text_map, text_span
from clip_lens_plugin.ablation import class_self_attention_hooks
from tests.conftest import EXTENDED, TOWERS, random_clip

pytestmark = pytest.mark.slow

N = 12


@pytest.fixture(scope="module", params=["norm_then_mean", "clipa", "coca", "custom_mean"])
def clip(request: pytest.FixtureRequest, tokenizer) -> HookedCLIP:
    tower = random_clip((TOWERS | EXTENDED)[request.param])
    return HookedCLIP.from_open_clip(tower, image_transform(32, is_train=False), tokenizer)


class Noise(Dataset):
    """Pictures of noise with labels from 0 to 2."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        if not 0 <= i < N:
            raise IndexError(i)
        return Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)), i % 3


@pytest.fixture(scope="module")
def pictures() -> Noise:
    return Noise()


def test_a_store_gives_back_what_was_decomposed(clip, pictures, tmp_path):
    store = collect(clip, pictures, tmp_path / "store", "contributions", dtype="float32", progress=False)
    assert store.completeness_error < 1e-5
    direct = clip.decompose(clip.prepare([picture for picture, _ in pictures]))
    found = store[:]
    for part in ("heads", "mlps", "embed", "attn_bias", "ln_bias", "embedding"):
        torch.testing.assert_close(getattr(found, part), getattr(direct, part), rtol=1e-4, atol=1e-5)
    assert found.completeness_error() < 1e-5
    assert not found.has_self_attention


def test_ablating_in_the_sum_is_replacing_contributions(clip, pictures, tmp_path):
    store = collect(clip, pictures, tmp_path / "store", "contributions", dtype="float32", progress=False)
    classes = torch.nn.functional.normalize(torch.randn(3, 24, generator=torch.Generator().manual_seed(0)), dim=-1)
    table = mean_ablation_curve(store, classes, ablation="zero").set_index("ablated")
    assert not any("itself" in name for name in table.index)
    c = clip.decompose(clip.prepare([picture for picture, _ in pictures])).normalized()
    for name, without in (("all MLPs", c.mlps.sum(1)), ("attention 0", c.heads[:, 0].sum(1) + c.attn_bias[:, 0])):
        right = ((c.embedding - without) @ classes.T).argmax(1) == store.labels
        assert table.loc[name, "accuracy"] == pytest.approx(right.double().mean().item())


def test_maps_and_textspan_add_up(clip, pictures):
    images = clip.prepare([picture for picture, _ in pictures])
    texts = ["a dog", "a cat", "a car"]
    c = clip.decompose(images, tokens=True).normalized()
    embeddings = clip.encode_text(texts)
    maps = patch_text_map(clip, images, texts)
    torch.testing.assert_close(maps.scores, c.heads.sum((1, 2)) @ embeddings.T, rtol=1e-4, atol=1e-5)
    by_token = c.tokens(1, 2)
    torch.testing.assert_close(by_token.sum(1), c.heads[:, 1, 2], rtol=1e-4, atol=1e-5)
    span = text_span(clip, Moments.from_contributions(c), texts, 3, [(1, 2)])[1, 2]
    written = c.heads[:, 1, 2].double()
    assert span.total_variance == pytest.approx((written - written.mean(0)).square().sum(1).mean().item(), rel=1e-4)


def test_the_class_token_has_no_attention_to_itself_that_counts(clip):
    with pytest.raises(ValueError, match="does not pool the class token"):
        class_self_attention_hooks(clip, [0])
