"""Whose moments a store keeps: all, or the late heads' alone where an attention pool makes them large."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.utils.data import Dataset

from clip_lens_plugin import HookedCLIP, collect, text_span
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.collection.plan import CollectionMismatchError, Plan
from tests.support.families import HEADS, PATCH, SIGLIP, SIZE, WIDTH, with_trunk

pytestmark = pytest.mark.slow

DEPTH = 6


class Noise(Dataset):
    """Nine tensors of the tower's size."""

    def __init__(self, interrupted_at: int = -1) -> None:
        self.images = torch.randn(9, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        self.interrupted_at = interrupted_at

    def __repr__(self) -> str:
        return "Noise()"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> torch.Tensor:
        if position == self.interrupted_at:
            raise KeyboardInterrupt
        return self.images[position]


@pytest.fixture(scope="module")
def siglip() -> HookedCLIP:
    """SigLIP's architecture with six layers."""
    trunk = VisionTransformer(
        img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0, **SIGLIP
    )
    return HookedCLIP.from_open_clip(with_trunk(trunk, projected=False))


@pytest.fixture(scope="module")
def all_heads(siglip, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("all")
    collect(siglip, Noise(), folder, batch_size=4, progress=False, heads="all")
    return folder


def test_late_heads_are_the_default_where_there_is_a_pool(siglip, tmp_path, all_heads):
    late = collect(siglip, Noise(), tmp_path, batch_size=4, progress=False).moments
    whole = ContributionStore.open(all_heads, siglip).moments
    assert (late.layers, whole.layers, late.n) == ((2, 3, 4, 5), None, 9)
    assert late.sum_yy.shape == (4, HEADS, HEADS * WIDTH // HEADS, WIDTH)
    assert torch.equal(late.mean, whole.mean)
    assert torch.equal(late.sum_yy, whole.sum_yy[2:])
    assert ContributionStore.open(tmp_path, siglip).plan.heads == "late"
    sizes = [(folder / "moments.safetensors").stat().st_size for folder in (tmp_path, all_heads)]
    assert sizes[0] < 0.7 * sizes[1]


def test_text_span_of_late_moments_is_that_of_all_and_others_are_refused(siglip, tmp_path, all_heads):
    late = collect(siglip, Noise(), tmp_path, batch_size=4, progress=False).moments
    whole = ContributionStore.open(all_heads, siglip).moments
    texts = torch.nn.functional.normalize(torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(1)), dim=1)
    names = [str(i) for i in range(40)]
    found = text_span(siglip, late, names, 5, text_embeddings=texts)
    expected = text_span(siglip, whole, names, 5, text_embeddings=texts)
    assert found.heads == [(layer, head) for layer in range(2, DEPTH) for head in range(HEADS)]
    assert [span.indices for span in found] == [span.indices for span in expected]
    for heads in ("all", [(1, 0)], [(-1, 0), (-5, 2)]):
        with pytest.raises(ValueError, match=r"not in these moments, which are of layers 2 to 5 alone.*heads='all'"):
            text_span(siglip, late, names, 5, heads, texts)


@pytest.mark.parametrize("heads", ["late", "all"])
def test_what_was_begun_so_is_gone_on_with_so(siglip, tmp_path, heads, monkeypatch):
    monkeypatch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 4)
    with pytest.raises(KeyboardInterrupt):
        collect(siglip, Noise(7), tmp_path, batch_size=4, progress=False, heads=heads)
    other = {"late": "all", "all": "late"}[heads]
    with pytest.raises(CollectionMismatchError, match=f"heads was {heads}, now {other}"):
        collect(siglip, Noise(), tmp_path, batch_size=4, progress=False, heads=other, resume=True)
    store = collect(siglip, Noise(), tmp_path, batch_size=4, progress=False, resume=True)
    assert (store.plan.heads, store.moments.n) == (heads, 9)


def test_other_towers_and_earlier_plans_keep_all(clip, finished):
    assert finished.plan.heads == "all"
    assert finished.moments.layers is None
    kept = replace(finished.plan, heads="late").to_json()
    del kept["heads"]
    assert Plan.from_json(kept).heads == "all"
