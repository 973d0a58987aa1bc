"""Each feature that cannot be decomposed exactly is refused by name; the others are accepted and exact."""

from __future__ import annotations

import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from torch import nn

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.adapters.open_clip_tower import open_clip_parts
from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from tests.conftest import TEXT_CFG, TOWERS, VISION_CFG, random_clip, random_images

pytestmark = pytest.mark.slow


def assert_refused(clip: nn.Module, words: str) -> None:
    with pytest.raises(UnsupportedTowerError, match=words) as refusal:
        HookedCLIP.from_open_clip(clip, model_name="my model")
    assert str(refusal.value).startswith("my model: ")
    assert "upported" in str(refusal.value)


@pytest.mark.parametrize(
    ("vision_cfg", "words"),
    [
        ({"pool_type": "none"}, "pool_type='none' instead of 'tok' .class token. or 'avg'"),
        ({"attentional_pool": "parallel"}, "two attention pools .attentional_pool='parallel'"),
        ({"attentional_pool": True, "pool_type": "avg"}, "the mean over several queries"),
        ({"scaled_cosine_attn": True}, "scaled cosine attention, which open_clip itself cannot run"),
        ({"norm_kwargs": {"elementwise_affine": False}}, "LayerNorm without weight or bias"),
        ({"norm_kwargs": {"bias": False}}, "LayerNorm without weight or bias"),
    ],
)
def test_unsupported_features_are_named(vision_cfg: dict, words: str) -> None:
    pooler = {"attn_pooler_queries": 4, "attn_pooler_heads": 4}
    assert_refused(random_clip({"vision_cfg": {**pooler, **vision_cfg}}), words)


def test_a_resnet_is_refused() -> None:
    vision_cfg = {"image_size": 32, "layers": (1, 1, 1, 1), "width": 16, "head_width": 64}
    assert_refused(CLIP(24, vision_cfg, dict(TEXT_CFG)), "ModifiedResNet.*no residual stream of tokens")


@pytest.mark.parametrize(("visual", "words"), [(None, "no `visual` tower"), (nn.Linear(2, 2), "got Linear")])
def test_a_model_of_another_kind_is_refused(visual: nn.Module | None, words: str) -> None:
    clip = nn.Module()
    if visual is not None:
        clip.visual = visual
    assert_refused(clip, words)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"add_bias_kv": True}, "added key and value"),
        ({"add_zero_attn": True}, "added key and value"),
        ({"kdim": 40, "vdim": 40}, "MultiheadAttention without a packed projection"),
    ],
)
def test_altered_attention_is_refused(kwargs: dict, words: str) -> None:
    clip = random_clip()
    clip.visual.transformer.resblocks[1].attn = nn.MultiheadAttention(48, 4, batch_first=True, **kwargs)
    assert_refused(clip, words)


def test_another_last_norm_is_refused() -> None:
    clip = random_clip()
    clip.visual.ln_post = nn.Identity()
    assert_refused(clip, "Identity instead of a LayerNorm")


@pytest.mark.parametrize(
    "changes",
    [
        *TOWERS.values(),
        {"vision_cfg": {"final_ln_after_pool": True}},
        {"vision_cfg": {"pos_embed_type": "sin_cos_2d"}},
        {"vision_cfg": {"norm_kwargs": {"eps": 1e-2}}},
        {"vision_cfg": {"act_kwargs": {"approximate": "tanh"}}},
        {"init_logit_bias": -10.0, "nonscalar_logit_scale": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("listening", [False, True])
def test_supported_features_are_exact(changes: dict, listening: bool) -> None:
    model = HookedCLIP.from_open_clip(random_clip(changes, torch.float64))
    images = random_images(model)
    output = model.run_with_cache(images)[0] if listening else model(images)
    torch.testing.assert_close(output, model.clip.encode_image(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("listening", [False, True])
def test_no_projection_and_no_attention_bias(listening: bool) -> None:
    clip = random_clip(dtype=torch.float64)
    clip.visual.proj = None
    clip.visual.transformer.resblocks[0].attn = nn.MultiheadAttention(
        48, 4, bias=False, batch_first=True, dtype=torch.float64
    )
    model = HookedCLIP.from_open_clip(clip)
    images = random_images(model)
    output = model.run_with_cache(images)[0] if listening else model(images)
    assert model.cfg.d_embed == 48
    torch.testing.assert_close(output, clip.encode_image(images), rtol=1e-12, atol=1e-12)
    assert not model.b_Q[0].any()
    assert not model.b_O[0].any()


def test_a_tower_that_returns_its_tokens_too_is_decomposed_as_its_embedding() -> None:
    model = HookedCLIP.from_open_clip(random_clip({"vision_cfg": {"output_tokens": True}}, torch.float64))
    images = random_images(model)
    embedding, _ = model.clip.visual(images)
    torch.testing.assert_close(model(images), embedding, rtol=1e-12, atol=1e-12)
    assert model.decompose(images, strict=True).completeness_error() < 1e-12


def test_a_text_tower_of_its_own_is_accepted(tokenizer) -> None:
    clip = CustomTextCLIP(24, dict(VISION_CFG), dict(TEXT_CFG)).eval()
    model = HookedCLIP.from_open_clip(clip, tokenizer=tokenizer)
    torch.testing.assert_close(model(random_images(model)), clip.encode_image(random_images(model)))
    expected = clip.encode_text(tokenizer(["a dog"]), normalize=True)
    torch.testing.assert_close(model.encode_text("a dog"), expected.detach())


def test_parts_describe_the_tower() -> None:
    clip = random_clip({"quick_gelu": True, "vision_cfg": {"image_size": (32, 56), "width": 60, "head_width": 20}})
    cfg = open_clip_parts(clip.visual, "a name").cfg
    assert (cfg.model_name, cfg.act_fn, cfg.pooling) == ("a name", "quick_gelu", "class_token")
    assert (cfg.image_size, cfg.patch_size, cfg.grid_size) == ((32, 56), (8, 8), (4, 7))
    assert (cfg.n_ctx, cfg.n_layers, cfg.n_heads, cfg.d_head, cfg.d_mlp, cfg.d_embed) == (
        29,
        3,
        3,
        20,
        240,
        24,
    )
