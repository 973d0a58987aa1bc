"""timm's plain vision transformers are exact; each feature that is not supported is refused by name."""

from __future__ import annotations

import copy

import pytest
import timm.layers
import torch
from open_clip.model import CustomTextCLIP
from torch import nn

from clip_lens_plugin import HookedCLIP, decompose
from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from tests.conftest import TEXT_CFG, random_images

pytestmark = pytest.mark.slow

SUPPORTED = {
    "token": {"timm_pool": "token", "timm_proj": None},  # MobileCLIP2-L-14: timm's own head, with a bias
    "linear": {"timm_pool": "token", "timm_proj": "linear"},
    "no projection": {"timm_pool": "token", "timm_proj": "none"},
    "norm, then mean": {"timm_pool": "avg", "timm_proj": "linear"},
    "mean, then norm": {"timm_pool": "avg", "timm_proj": None},
    "no class token": {"timm_model_name": "test_vit2", "timm_pool": "avg", "timm_proj": "linear"},
    "attention": {"timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none"},  # SigLIP, with a register
}
STEM = {"timm_model_name": "vit_base_mci_224", "image_size": 224, "timm_pool": "token", "timm_proj": None}
"""MobileCLIP-B: a stem of three convolutions in place of one."""


MADE: dict[str, CustomTextCLIP] = {}


def timm_clip(changes: dict) -> CustomTextCLIP:
    """With two blocks, in float64; a copy, since making a whole tower takes seconds."""
    if repr(changes) not in MADE:
        MADE[repr(changes)] = _timm_clip(changes)
    return copy.deepcopy(MADE[repr(changes)])


def _timm_clip(changes: dict) -> CustomTextCLIP:
    vision = {"timm_model_name": "test_vit", "timm_model_pretrained": False, "image_size": 160, **changes}
    torch.manual_seed(0)
    width = {"test_vit": 64, "test_vit3": 96}[vision["timm_model_name"]] if changes.get("timm_proj") == "none" else 24
    clip = CustomTextCLIP(width, vision, dict(TEXT_CFG)).eval()
    del clip.visual.trunk.blocks[2:]
    clip.double()
    with torch.no_grad():
        for parameter in clip.visual.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return clip


@pytest.fixture(params=[*SUPPORTED, "stem"])
def tower(request: pytest.FixtureRequest) -> HookedCLIP:
    clip = timm_clip(SUPPORTED.get(request.param, STEM))
    if request.param == "stem":
        clip.visual.set_input_size((96, 96))  # As quick as the others.
    return HookedCLIP.from_open_clip(clip, model_name="my model")


def test_output_and_parts_are_exact(tower):
    images = random_images(tower, 2)
    expected = tower.clip.encode_image(images)
    output, cache = tower.run_with_cache(images)
    torch.testing.assert_close(tower(images), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    for contributions in (decompose(tower, cache, strict=True), tower.decompose(images, tokens=True)):
        assert contributions.completeness_error() < 1e-12
        torch.testing.assert_close(contributions.total(), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(contributions.tokens(1, 1).sum(1), contributions.heads[:, 1, 1])


def test_in_float32_too(tower):
    single = HookedCLIP.from_open_clip(tower.clip.float())
    images = random_images(single, 2)
    assert single.decompose(images, strict=True).completeness_error() < 1e-5
    torch.testing.assert_close(single(images), single.clip.encode_image(images), rtol=1e-5, atol=1e-5)


def test_every_hook_is_live(tower):
    images = random_images(tower, 1)
    plain = tower(images)
    for name in tower.hook_dict:
        edited = tower.run_with_hooks(images, fwd_hooks=[(name, lambda x, hook: x * (1 + 0.3 * torch.rand_like(x)))])
        assert (edited - plain).norm() > 1e-6 * plain.norm(), name


def test_shape_is_read():
    cfg = HookedCLIP.from_open_clip(timm_clip(STEM)).cfg
    assert (cfg.image_size, cfg.patch_size, cfg.grid_size, cfg.n_ctx) == ((224, 224), (16, 16), (14, 14), 197)
    assert (cfg.n_layers, cfg.n_heads, cfg.d_head, cfg.d_model, cfg.d_mlp, cfg.d_embed) == (2, 12, 64, 768, 3072, 24)
    assert (cfg.pooling, cfg.act_fn) == ("class_token", "gelu")
    for pooling in ("norm, then mean", "mean, then norm"):
        cfg = HookedCLIP.from_open_clip(timm_clip(SUPPORTED[pooling])).cfg
        assert cfg.pooling == pooling.replace(",", "").replace(" ", "_")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "mlp"}, "Mlp after its pooling"),
        ({"timm_model_name": "test_resnet"}, "a trunk of timm's ResNet"),
        ({"timm_model_name": "vitamin_small_224", "image_size": 224, "timm_pool": "avg"}, "ViTamin's stages"),
        ({"timm_model_name": "fastvit_t8", "image_size": 256, "timm_pool": "avg"}, "a trunk of timm's FastVit"),
    ],
)
def test_other_trunks_are_refused_by_name(changes, words):
    vision = {"timm_model_name": "test_vit", "timm_model_pretrained": False, "image_size": 160, **changes}
    clip = CustomTextCLIP(96, vision, dict(TEXT_CFG))
    with pytest.raises(UnsupportedTowerError, match=words) as refusal:
        HookedCLIP.from_open_clip(clip, model_name="my model")
    assert str(refusal.value).startswith("my model: ")


def _altered(change) -> CustomTextCLIP:
    clip = timm_clip(SUPPORTED["token"])
    change(clip.visual.trunk.blocks[1], clip.visual.trunk)
    return clip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda block, trunk: setattr(block.attn, "q_norm", timm.layers.RmsNorm(21)), "RmsNorm instead of LayerNorm"),
        (lambda block, trunk: setattr(block.attn, "gate", nn.Linear(2, 2)), "gated attention"),
        (lambda block, trunk: setattr(block, "norm2", timm.layers.RmsNorm(64)), "RmsNorm instead of LayerNorm"),
        (lambda block, trunk: setattr(block, "mlp", timm.layers.GluMlp(64, 64)), "an MLP whose gate comes last"),
        (lambda block, trunk: setattr(block, "mlp", timm.layers.ConvMlp(64, 64)), "an MLP of timm's ConvMlp"),
        (
            lambda block, trunk: setattr(trunk, "fc_norm", nn.LayerNorm(64)),
            "LayerNorm and LayerNorm around",
        ),
        (lambda block, trunk: setattr(trunk, "global_pool", "max"), "global_pool='max'"),
    ],
)
def test_altered_blocks_are_refused_by_name(change, words):
    with pytest.raises(UnsupportedTowerError, match=words):
        HookedCLIP.from_open_clip(_altered(change))
