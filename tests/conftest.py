"""Small CLIPs with random weights and the real architecture, wrapped and unwrapped."""

from __future__ import annotations

import os
from collections.abc import Iterator

import open_clip
import pytest
import torch
from open_clip.model import CLIP

from tests.support import typechecked

typechecked.install()

from clip_lens_plugin import HookedCLIP  # noqa: E402

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # Workers share the processor's cores.

TEXT_CFG = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VISION_CFG = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 3, "head_width": 12}

TOWERS: dict[str, dict] = {
    "plain": {},
    "quick_gelu": {"quick_gelu": True},
    "layer_scale": {"vision_cfg": {"ls_init_value": 0.1}},
    "no_ln_pre": {"vision_cfg": {"no_ln_pre": True}},
    "not_square": {"vision_cfg": {"image_size": (32, 56)}},
    "patch_16": {"vision_cfg": {"image_size": 48, "patch_size": 16}},
    "wide_mlp": {"vision_cfg": {"width": 60, "head_width": 20, "mlp_ratio": 4.5}},
    "patch_dropout": {"vision_cfg": {"patch_dropout": 0.5}},
    "norm_then_mean": {"vision_cfg": {"pool_type": "avg"}},
    "clipa": {
        "vision_cfg": {
            "pool_type": "avg",
            "final_ln_after_pool": True,
            "no_ln_pre": True,
            "pos_embed_type": "sin_cos_2d",
        }
    },
}
"""Variants of the plain tower whose blocks have the documented hook points: name to changes of the model config."""

EXTENDED: dict[str, dict] = {
    "coca": {"vision_cfg": {"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 3}},
    "custom": {
        "vision_cfg": {
            "qk_norm": True,
            "scale_heads": True,
            "scale_attn_inner": True,
            "scale_attn": True,
            "scale_fc": True,
            "ls_init_value": 0.3,
        }
    },
    "custom_mean": {
        "vision_cfg": {"scale_attn_inner": True, "scale_attn": True, "pool_type": "avg", "final_ln_after_pool": True}
    },
}
"""Variants with hook points of their own: an attention pool, or norms inside blocks."""


@pytest.fixture(autouse=True)
def _gradients_are_left_on() -> Iterator[None]:
    """A test that leaves gradients switched off fails itself, and not those after it."""
    yield
    left_on = torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    assert left_on, "the test left gradients switched off for those that follow"


def random_clip(changes: dict | None = None, dtype: torch.dtype = torch.float32, seed: int = 0) -> CLIP:
    """An open_clip CLIP of real architecture; biases and norms are random too, so that none hides as a zero."""
    changes = dict(changes or {})
    vision_cfg = {**VISION_CFG, **changes.pop("vision_cfg", {})}
    torch.manual_seed(seed)
    clip = CLIP(24, vision_cfg, dict(TEXT_CFG), **changes).to(dtype).eval()
    with torch.no_grad():
        for parameter in clip.visual.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return clip


def random_images(model: HookedCLIP, n: int = 3, seed: int = 0) -> torch.Tensor:
    """Noise of the right size and dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, *model.cfg.image_size, generator=generator).to(model.cfg.dtype)


@pytest.fixture(params=[*TOWERS, *EXTENDED])
def tower(request: pytest.FixtureRequest) -> HookedCLIP:
    """Each variant in float64."""
    clip = random_clip((TOWERS | EXTENDED)[request.param], torch.float64)
    return HookedCLIP.from_open_clip(clip, model_name=request.param)


@pytest.fixture(params=list(TOWERS))
def plain_tower(request: pytest.FixtureRequest) -> HookedCLIP:
    """Each variant with the documented hook points, in float64."""
    return HookedCLIP.from_open_clip(random_clip(TOWERS[request.param], torch.float64), model_name=request.param)


@pytest.fixture(scope="session")
def tokenizer():
    return open_clip.get_tokenizer("ViT-B-32")


@pytest.fixture
def model(tokenizer) -> HookedCLIP:
    """The plain tower in float64, with a tokenizer."""
    return HookedCLIP.from_open_clip(random_clip(dtype=torch.float64), tokenizer=tokenizer)
