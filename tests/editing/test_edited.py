"""Edits as weights beside hooks on ``hook_z``, for every kind of tower; and what cannot be put into weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.model.identity.verification import unnormalised
from tests.adapters.conversion import clip_model, siglip_model
from tests.conftest import TOWERS, random_clip, random_images
from tests.support.families import FAMILIES, eva, vit

SCALED_HEADS = {"vision_cfg": {"scale_heads": True, "qk_norm": True, "ls_init_value": 0.3}}
MAKERS = {
    **{name: lambda name=name: random_clip(TOWERS[name]) for name in ("plain", "layer_scale", "clipa")},
    "scaled heads": lambda: random_clip(SCALED_HEADS),
    **{name: FAMILIES[name] for name in ("coca", "SigLIP", "PE", "halves turned")},
    "EVA, separate qkv": lambda: eva(qkv_fused=False, init_values=0.3, global_pool="token"),
}
REFUSED = ("custom", "EVA-02", "EVA-02, post-norm")


def wrapped(name: str) -> HookedCLIP:
    return HookedCLIP.from_open_clip((MAKERS | FAMILIES)[name]().double(), model_name=name)


def hooked_run(model: HookedCLIP, images: Tensor, by_head: dict[tuple[int, int], Any]) -> Tensor:
    """With a function on each head's output at every token, as TransformerLens does it."""

    def hook(layer: int) -> Any:
        def change(z: Tensor, hook: Any) -> Tensor:
            z = z.clone()
            for (own, head), function in by_head.items():
                if own == layer:
                    z[:, :, head] = function(z[:, :, head])
            return z

        return change

    hooks = [(f"blocks.{layer}.attn.hook_z", hook(layer)) for layer in {layer for layer, _ in by_head}]
    with torch.no_grad():
        return model.run_with_hooks(images, fwd_hooks=hooks)


def means_of(model: HookedCLIP) -> Tensor:
    shape = model.cfg.n_layers, model.cfg.n_heads, model.cfg.d_head
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("name", MAKERS)
def test_the_copy_does_what_hooks_do(name: str) -> None:
    model = wrapped(name)
    images, means = random_images(model), means_of(model)
    untouched = {key: value.clone() for key, value in model.clip.state_dict().items()}
    before = model(images)
    edited = model.edited(remove=[(0, 1), (-1, 2), (0, 3)], scale={(1, 0): -0.5, (0, 0): 1.7}, means=means)
    by_head = {(l, h): lambda z, l=l, h=h: means[l, h].expand_as(z) for l, h in [(0, 1), (2, 2), (0, 3)]}
    by_head |= {(1, 0): lambda z: -0.5 * z, (0, 0): lambda z: 1.7 * z}
    expected = hooked_run(model, images, by_head)
    assert (expected - before).norm() > 1e-2 * before.norm()
    torch.testing.assert_close(unnormalised(edited.clip.encode_image, images), expected, atol=1e-12, rtol=1e-12)
    assert all(torch.equal(value, untouched[key]) for key, value in model.clip.state_dict().items())
    assert torch.equal(model(images), before)
    assert model.edits == ()
    assert [str(edit) for edit in edited.edits][:2] == [
        "L0H1 removed, its mean in its place",
        "L2H2 removed, its mean in its place",
    ]


@pytest.mark.parametrize("name", ["layer_scale", "SigLIP", "PE, no class token"])
def test_a_head_says_nothing_about_what_is_projected_out(name: str) -> None:
    model = wrapped(name)
    images = random_images(model)
    directions = torch.randn(2 if name == "layer_scale" else 1, model.cfg.d_embed, dtype=torch.float64)
    if name == "PE, no class token":  # Eight heads of the pool, on twelve dimensions.
        assert model.pooling.n_heads == 8
    before = model.decompose(images).heads[:, 2, 1] @ directions.T
    edited = model.edited(project_out={(2, 1): directions})
    parts = edited.decompose(images)
    assert before.abs().min() > 1e-3
    assert (parts.heads[:, 2, 1] @ directions.T).abs().max() < 1e-12 * before.abs().max()
    # No more than asked for is taken: as many dimensions as directions, times the pool's heads.
    taken = len(directions) * model.pooling.n_heads
    ranks = [torch.linalg.matrix_rank(each.blocks[2].attn.W_O, rtol=1e-9) for each in (model, edited)]
    assert (ranks[0] - ranks[1]).tolist() == [0, taken, 0, 0]


def test_texts_are_projected_out_and_edits_of_edits_add_up(model: HookedCLIP) -> None:
    images = random_images(model)
    text = model.encode_text(["a cat"])
    once = model.edited(project_out={(1, 1): "a cat"}, scale={(1, 1): 0.5})
    assert (once.decompose(images).heads[:, 1, 1] @ text.T).abs().max() < 1e-12
    twice = once.edited(remove=1, scale={(0, 0): 0})
    every = {(1, head): torch.zeros_like for head in range(4)} | {(0, 0): torch.zeros_like}
    torch.testing.assert_close(twice(images), hooked_run(model, images, every), atol=1e-12, rtol=0)
    assert len(twice.edits) == 7
    assert "“a cat”" in str(once.edits[1])


@pytest.mark.parametrize("make", [clip_model, siglip_model])
def test_hugging_face_models_are_edited(make: Any) -> None:
    clip = random_clip() if make is clip_model else FAMILIES["SigLIP"]()
    model = HookedCLIP.from_transformers(make(clip))
    images, means = random_images(model), means_of(model).float()
    edited = model.edited(remove=[(1, 2)], means=means)
    expected = hooked_run(model, images, {(1, 2): lambda z: means[1, 2].expand_as(z)})
    torch.testing.assert_close(edited.clip.encode_image(images), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_norms_after_the_heads_are_refused_by_name(name: str) -> None:
    model = wrapped(name)
    with pytest.raises(ValueError, match=r"Layer 1 of .* has a norm over what"):
        model.edited(scale={(1, 0): 0.5})


def test_a_mean_needs_a_bias() -> None:
    clip = vit(global_pool="token", proj_bias=False)
    model = HookedCLIP.from_open_clip(clip)
    with pytest.raises(ValueError, match="has no bias of its attention's output to carry a mean"):
        model.edited(remove=[(0, 1)], means=means_of(model))
    images = random_images(model)
    expected = hooked_run(model, images, {(0, 1): torch.zeros_like})
    torch.testing.assert_close(model.edited(remove=[(0, 1)])(images), expected, atol=1e-6, rtol=1e-6)


def test_layers_that_share_weights_are_refused() -> None:
    clip: Any = random_clip()
    blocks = clip.visual.transformer.resblocks
    blocks[2].attn.out_proj = blocks[0].attn.out_proj
    with pytest.raises(ValueError, match="shares its output weights with another layer"):
        HookedCLIP.from_open_clip(clip).edited(remove=[(0, 0)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing to edit"),
        ({"remove": []}, "nothing to edit"),
        ({"remove": [(0, 0)], "scale": {(0, 0): 2}}, "stands in remove and in scale"),
        ({"remove": [(0, 0)], "means": {"blocks.0.attn.hook_z": torch.zeros(17, 4, 12)}}, "mean for each position"),
        ({"remove": [(0, 0)], "means": torch.zeros(3, 17, 4, 12)}, "mean for each position"),
        ({"remove": [(0, 0)], "means": torch.zeros(4, 12)}, r"means must be .* \[3, 4, 12\]"),
        ({"remove": [(0, 0)], "means": torch.full((3, 4, 12), torch.nan)}, "NaN or infinite"),
        ({"scale": {(0, 0): 2}, "means": torch.zeros(3, 4, 12)}, "give remove as well"),
        ({"scale": {(0, 0): True}}, "finite number"),
        ({"scale": {(0, 0): float("inf")}}, "finite number"),
        ({"scale": {0: 1.0}}, "must be a .layer, head. pair"),
        ({"scale": {(0, 0): 1.0, (-3, 0): 2.0}}, "stands in scale twice"),
        ({"scale": [(0, 0)]}, "is a dictionary"),
        ({"project_out": {(0, 0): torch.randn(12, 24)}}, "nothing would be left"),
        ({"project_out": {(0, 0): torch.randn(3)}}, r"\[24\] or \[directions, 24\]"),
        ({"project_out": {(0, 0): torch.zeros(24)}}, "says nothing about"),
        ({"project_out": {(0, 0): torch.ones(24, dtype=torch.int64)}}, "floating-point"),
        ({"project_out": {(0, 0): []}}, "one or more texts"),
    ],
)
def test_what_is_no_edit_is_refused(model: HookedCLIP, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.edited(**arguments)


def test_heads_that_are_not_there_are_refused(model: HookedCLIP) -> None:
    with pytest.raises(IndexError, match="no layer 3, head 0"):
        model.edited(scale={(3, 0): 0.5})


def test_what_would_load_the_model_without_its_edits_is_forgotten() -> None:
    model = HookedCLIP.from_pretrained("scenes")
    edited = model.edited(scale={(0, 0): 0.5})
    assert model.origin is not None
    assert model.origin.recipe is not None
    assert edited.origin is not None
    assert edited.origin.recipe is None
    assert edited.cfg.model_name == "scenes (edited)"
