"""Where a pooling reads all tokens, queries and keys wait for the end of a run in the place of the pattern."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, decompose
from clip_lens_plugin.decomposition.running.run_size import images_with_patterns
from tests.conftest import random_clip
from tests.support.families import FAMILIES
from tests.support.live_bytes import LiveBytes

pytestmark = pytest.mark.slow

READ_ALL = ["norm_then_mean", "SigLIP with registers", "EVA, mean", "PE"]


def model_of(name: str) -> HookedCLIP:
    torch.manual_seed(0)
    return HookedCLIP.from_open_clip(FAMILIES[name]().double())


def images_of(model: HookedCLIP, n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, *model.cfg.image_size, dtype=model.cfg.dtype, generator=torch.manual_seed(1))


def turned(activation: torch.Tensor, hook: object) -> torch.Tensor:
    activation *= torch.linspace(0.5, 2.0, activation.shape[-1], dtype=activation.dtype)
    return activation


@pytest.mark.parametrize("name", READ_ALL)
@pytest.mark.parametrize("point", ["hook_q", "hook_k", "hook_v", "hook_attn_scores", "hook_pattern", None])
def test_tokens_are_those_of_the_cached_run_under_the_same_edit(name: str, point: str | None) -> None:
    """An edit in place, which must reach what is kept, in one layer of two."""
    model = model_of(name)
    images = images_of(model)
    plain = model.decompose(images, tokens=True).tokens(1, 0)
    hooks = [] if point is None else [(f"blocks.1.attn.{point}", turned)]
    with model.hooks(fwd_hooks=hooks):
        found = model.decompose(images, tokens=True, strict=True)
        expected = decompose(model, model.run_with_cache(images)[1])
    for layer in range(model.cfg.n_layers):
        torch.testing.assert_close(found.tokens(layer, 0), expected.tokens(layer, 0), rtol=1e-9, atol=1e-12)
    assert torch.equal(found.tokens(1, 0), plain) == (point is None)


@pytest.mark.parametrize("name", [name for name in READ_ALL if name != "EVA, mean"])
def test_what_is_kept_of_a_run_changes_nothing_in_it(name: str) -> None:
    """The same kernels run as without us, to the last bit; but for EVA, whose scale is divided out and in again."""
    model = model_of(name)
    images = images_of(model)
    assert torch.equal(model.decompose(images, tokens=True, batch_size=3).embedding, model(images))


def test_memory_does_not_grow_with_the_square_of_the_tokens() -> None:
    model = HookedCLIP.from_open_clip(
        random_clip({"vision_cfg": {"pool_type": "avg", "image_size": 160, "layers": 12}})
    )
    n_ctx, cfg = model.cfg.n_ctx, model.cfg
    patterns = cfg.n_layers * cfg.n_heads * n_ctx**2 * 4
    with LiveBytes() as live:
        model.decompose(images_of(model, 1), tokens=True)
    assert live.peak < patterns / 2


def test_more_images_fit_in_a_run_where_nobody_listens_to_the_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("norm_then_mean")
    cfg = model.cfg
    heads, rows = cfg.n_layers * cfg.n_heads, cfg.n_ctx - 1
    monkeypatch.setattr(
        "clip_lens_plugin.decomposition.running.run_size.PATTERN_BYTES",
        {"cpu": 5 * heads * (rows + cfg.n_ctx) * cfg.d_head * 8},
    )
    assert images_with_patterns(model, 5) == 5
    assert images_with_patterns(model, 6) == 3
    held = heads * rows * cfg.n_ctx * 8
    monkeypatch.setattr("clip_lens_plugin.decomposition.running.run_size.PATTERN_BYTES", {"cpu": 2 * held})
    with model.hooks(
        fwd_hooks=[(f"blocks.{layer}.attn.hook_pattern", lambda x, hook: x) for layer in range(cfg.n_layers)]
    ):
        assert images_with_patterns(model, 5) == 2
