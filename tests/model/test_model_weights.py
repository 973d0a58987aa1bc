"""A wrapped model's weights, device, config and texts, and what is refused when it is wrapped."""

from __future__ import annotations

import math

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from clip_lens_plugin import HookedCLIP
from tests.conftest import random_clip, random_images
from tests.model.test_hooked_clip import distance

pytestmark = pytest.mark.slow

TEXTS = ["a dog", "a cat on a mat", "a photo of the sea", "red", "two boats"]


def test_no_weight_is_copied(plain_tower: HookedCLIP) -> None:
    clip = plain_tower.clip
    assert [id(p) for p in plain_tower.parameters()] == [id(p) for p in clip.parameters()]
    assert [id(b) for b in plain_tower.buffers()] == [id(b) for b in clip.buffers()]

    def same_memory(view: Tensor, source: Tensor) -> bool:
        return view.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()

    assert same_memory(plain_tower.W_P, clip.visual.proj)
    assert same_memory(plain_tower.ln_final.w, clip.visual.ln_post.weight)
    assert same_memory(plain_tower.ln_final.b, clip.visual.ln_post.bias)
    scaled = hasattr(clip.visual.transformer.resblocks[0].ls_1, "gamma")
    for block, source in zip(plain_tower.blocks, clip.visual.transformer.resblocks, strict=True):
        attention = block.attn
        for weight in (attention.W_Q, attention.W_K, attention.W_V):
            assert same_memory(weight, source.attn.in_proj_weight)
        for bias in (attention.b_Q, attention.b_K, attention.b_V):
            assert same_memory(bias, source.attn.in_proj_bias)
        assert same_memory(block.mlp.W_in, source.mlp.c_fc.weight)
        assert same_memory(block.mlp.b_in, source.mlp.c_fc.bias)
        assert same_memory(block.ln1.w, source.ln_1.weight)
        assert same_memory(block.ln2.b, source.ln_2.bias)
        if not scaled:  # a LayerScale is multiplied in
            assert same_memory(block.attn.W_O, source.attn.out_proj.weight)
            assert same_memory(block.attn.b_O, source.attn.out_proj.bias)
            assert same_memory(block.mlp.W_out, source.mlp.c_proj.weight)
            assert same_memory(block.mlp.b_out, source.mlp.c_proj.bias)


def test_an_edited_weight_is_seen(model: HookedCLIP) -> None:
    images = random_images(model)
    before = model(images)
    with torch.no_grad():
        model.clip.visual.transformer.resblocks[1].attn.out_proj.weight.mul_(2)
    assert distance(model(images), before) > 1e-3
    assert distance(model(images), model.clip.encode_image(images)) < 1e-12


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_to_is_followed(model: HookedCLIP, dtype: torch.dtype, tolerance: float) -> None:
    images = random_images(model)
    model.set_labels(["a", "b"], nn.functional.normalize(torch.randn(2, 24, dtype=torch.float64), dim=-1))
    before = model(images)
    assert model.to(dtype) is model
    assert model.cfg.dtype == model.W_Q.dtype == model.W_U.dtype == dtype
    output = model(images)
    assert output.dtype == dtype
    assert distance(output, model.clip.encode_image(images.to(dtype))) < tolerance
    assert distance(output, before) < tolerance


def test_to_another_device_is_followed(model: HookedCLIP) -> None:
    model.set_labels(["a"], torch.full((1, 24), 24**-0.5, dtype=torch.float64))
    model.to("meta")
    assert model.cfg.device.type == model.W_U.device.type == "meta"
    assert model(torch.zeros(2, 3, 32, 32)).device.type == "meta"


@pytest.mark.parametrize("mlp_input", [False, True])
@pytest.mark.parametrize("include_mlp_biases", [False, True])
def test_accumulated_bias(tower: HookedCLIP, mlp_input: bool, include_mlp_biases: bool) -> None:
    total = tower.b_O[:2].sum(0)
    if include_mlp_biases:
        total = total + tower.b_out[:2].sum(0)
    if mlp_input:
        total = total + tower.b_O[2]
    assert distance(tower.accumulated_bias(2, mlp_input, include_mlp_biases), total) < 1e-12


def test_config_is_the_towers(model: HookedCLIP) -> None:
    cfg = model.cfg
    assert (cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_head, cfg.d_mlp, cfg.d_embed) == (
        3,
        4,
        48,
        12,
        192,
        24,
    )
    assert (cfg.n_ctx, cfg.grid_size, cfg.image_size, cfg.patch_size) == (17, (4, 4), (32, 32), (8, 8))
    assert model.logit_scale == pytest.approx(1 / 0.07, rel=1e-6)


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 3, 16, 32), (2, 3, 64, 64), (1, 1, 32, 32), (1, 32, 32, 3)])
def test_a_wrong_shape_is_refused(model: HookedCLIP, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of the tests
    with pytest.raises(ValueError, match=r"\[batch, 3, 32, 32\]") as refusal:
        model(torch.zeros(shape))
    assert str(list(shape)) in str(refusal.value)
    assert "preprocess" in str(refusal.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["visual.transformer.resblocks.1.mlp.c_fc.weight", "visual.proj", "text_projection"])
def test_a_broken_weight_is_refused_by_name(name: str, value: float) -> None:
    clip = random_clip()
    with torch.no_grad():
        clip.get_parameter(name).view(-1)[3] = value
    with pytest.raises(ValueError, match=f"my model.*{name}"):
        HookedCLIP.from_open_clip(clip, model_name="my model")


# ---------------------------------------------------------------------- text


@pytest.mark.parametrize("normalize", [True, False])
def test_encode_text_equals_open_clip(
    model: HookedCLIP, tokenizer, monkeypatch: pytest.MonkeyPatch, normalize: bool
) -> None:
    monkeypatch.setattr("clip_lens_plugin.model.text.text_side.TEXT_BATCH", 2)
    embeddings = model.encode_text(TEXTS, normalize=normalize)
    assert distance(embeddings, model.clip.encode_text(tokenizer(TEXTS), normalize=normalize)) < 1e-12
    assert not embeddings.requires_grad
    assert distance(model.encode_text(TEXTS[1], normalize=normalize), embeddings[1:2]) < 1e-12


def test_encode_text_needs_a_tokenizer_and_a_text(model: HookedCLIP) -> None:
    with pytest.raises(ValueError, match="no text"):
        model.encode_text([])
    model.tokenizer = None
    with pytest.raises(ValueError, match=r"without a tokenizer.*get_tokenizer"):
        model.encode_text("a dog")
