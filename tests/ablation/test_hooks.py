"""Total effects of ablation, against open_clip run with edited weights or with torch's own module hooks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from clip_lens_plugin import HookedCLIP, decompose
from clip_lens_plugin.ablation.hooks import mean_ablation, resample_ablation, zero_ablation
from clip_lens_plugin.ablation.means import activation_means
from clip_lens_plugin.decomposition.running.activations import MissingActivationsError
from tests.ablation.conftest import (
    BATCH,
    D_HEAD,
    N_HEADS,
    N_LAYERS,
    N_TOKENS,
    TOWERS_ABLATED,
    assert_close,
    assert_same_gradients,
    encode_with,
    exact_model,
    mlp_out,
    output_of,
    point,
    without_heads,
)

pytestmark = pytest.mark.slow

HEADS_AT_2 = [f"blocks.1.attn.hook_{point}" for point in ("q", "k", "v", "z", "result")]
HEADS_AT_1 = [f"blocks.1.attn.hook_{point}" for point in ("attn_scores", "pattern")]
NO_HEADS = [f"blocks.1.{point}" for point in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "mlp.hook_post")]
DONORS = torch.tensor([2, 0, 1])


@pytest.fixture(scope="module", params=TOWERS_ABLATED)
def model(request: pytest.FixtureRequest) -> HookedCLIP:
    return exact_model(request.param)


# ---------------------------------------------------------------------- zero


@pytest.mark.parametrize("name", ["hook_v", "hook_pattern", "hook_z", "hook_result"])
def test_zero_ablation_of_heads_is_open_clip_with_their_output_weights_at_zero(model, images, name) -> None:
    hook = (f"blocks.1.attn.{name}", zero_ablation(heads=[0, -1]))
    expected = without_heads(model.clip, 1, [0, 3]).encode_image(images)
    assert_close(model.run_with_hooks(images, fwd_hooks=[hook]), expected)
    assert (expected - model.clip.encode_image(images)).abs().max() > 1e-3
    assert_close(model(images), model.clip.encode_image(images))


@pytest.mark.parametrize(
    ("name", "zeroed"),
    [
        ("blocks.1.hook_attn_out", ["attn.out_proj.weight", "attn.out_proj.bias"]),
        ("blocks.1.hook_mlp_out", ["mlp.c_proj.weight", "mlp.c_proj.bias"]),
        ("blocks.1.mlp.hook_post", ["mlp.c_proj.weight"]),
    ],
)
def test_zero_ablation_of_a_whole_activation_is_open_clip_with_weights_at_zero(model, images, name, zeroed) -> None:
    clip = copy.deepcopy(model.clip)
    for weight in zeroed:
        clip.visual.transformer.resblocks[1].get_parameter(weight).zero_()
    embedding = model.run_with_hooks(images, fwd_hooks=[(name, zero_ablation())])
    assert_close(embedding, clip.encode_image(images))


def test_hooks_at_several_points_add_up(model, images) -> None:
    clip = without_heads(without_heads(model.clip, 0, [2]), 2, [1, 2])
    hooks = [("blocks.0.attn.hook_z", zero_ablation([2])), ("blocks.2.attn.hook_z", zero_ablation(range(1, 3)))]
    assert_close(model.run_with_hooks(images, fwd_hooks=hooks), clip.encode_image(images))


@pytest.mark.parametrize("name", [*HEADS_AT_2, *HEADS_AT_1, *NO_HEADS])
def test_only_the_chosen_heads_and_positions_change(model, images, name) -> None:
    activation = model.run_with_cache(images, names_filter=name)[1][name]
    before = activation.clone()
    expected = activation.clone()
    if name in HEADS_AT_1:
        hook = zero_ablation([1], [0, 16])
        expected[:, 1, 0] = expected[:, 1, 16] = 0
    elif name in HEADS_AT_2:
        hook = zero_ablation([1], [0, 16])
        expected[:, 0, 1] = expected[:, 16, 1] = 0
    else:
        hook = zero_ablation(positions=[0, 16])
        expected[:, 0] = expected[:, 16] = 0
    assert torch.equal(hook(activation, hook=point(name)), expected)
    assert torch.equal(activation, before)
    assert not torch.equal(expected, before)


def test_no_heads_at_all_change_nothing(model, images) -> None:
    hooks = [("blocks.1.attn.hook_z", zero_ablation(heads=[]))]
    assert torch.equal(model.run_with_hooks(images, fwd_hooks=hooks), model(images))


# ---------------------------------------------------------------------- mean


def test_mean_ablation_is_open_clip_with_its_module_put_to_the_mean(model, images, others) -> None:
    """The means are those of other images, for each position its own."""
    means = activation_means(model, others, "blocks.1.hook_mlp_out")
    mean = output_of(model.clip, others, mlp_out(model.clip, 1)).mean(0)
    expected = encode_with(
        model.clip, images, [(mlp_out(model.clip, 1), lambda module, args, output: mean.expand_as(output))]
    )
    hooks = [("blocks.1.hook_mlp_out", mean_ablation(means))]
    assert_close(model.run_with_hooks(images, fwd_hooks=hooks), expected)


@pytest.mark.parametrize("name", ["blocks.1.attn.hook_z", "blocks.1.attn.hook_result"])
def test_mean_ablation_of_heads_is_replacing_them_by_hand(model, images, name) -> None:
    mean = model.run_with_cache(images, names_filter=name)[1][name].mean(0)

    def by_hand(activation: Tensor, hook) -> None:
        for position in (0, 5):
            for head in (1, 3):
                activation[:, position, head] = mean[position, head]

    expected = model.run_with_hooks(images, fwd_hooks=[(name, by_hand)])
    hook = mean_ablation(activation_means(model, images, name), heads=iter([1, 3]), positions=[0, 5])
    for _ in range(2):
        assert_close(model.run_with_hooks(images, fwd_hooks=[(name, hook)]), expected)
    assert (expected - model(images)).abs().max() > 1e-3


def test_one_hook_serves_all_layers(model, images) -> None:
    means = activation_means(model, images, lambda name: name.endswith("hook_mlp_out"))
    every_mlp = [(lambda name: name.endswith("hook_mlp_out"), mean_ablation(means))]
    modules = [mlp_out(model.clip, l) for l in range(N_LAYERS)]
    fixed = [output_of(model.clip, images, module).mean(0) for module in modules]
    by_module = [
        (module, lambda module, args, output, mean=mean: mean.expand_as(output))
        for module, mean in zip(modules, fixed, strict=True)
    ]
    assert_close(model.run_with_hooks(images, fwd_hooks=every_mlp), encode_with(model.clip, images, by_module))


# ---------------------------------------------------------------------- resample


def test_resampling_within_the_batch_is_open_clip_with_its_module_permuted(model, images) -> None:
    permuted = [(mlp_out(model.clip, 1), lambda module, args, output: output[DONORS])]
    hooks = [("blocks.1.hook_mlp_out", resample_ablation(DONORS))]
    assert_close(model.run_with_hooks(images, fwd_hooks=hooks), encode_with(model.clip, images, permuted))


def test_resampling_from_a_cache_is_open_clip_with_the_donors_output(model, images, others) -> None:
    cache = model.run_with_cache(others, names_filter=lambda name: True)[1]
    donated = output_of(model.clip, others, mlp_out(model.clip, 1))
    expected = encode_with(model.clip, images, [(mlp_out(model.clip, 1), lambda module, args, output: donated)])
    for donors in (cache, cache.cache_dict):
        hooks = [("blocks.1.hook_mlp_out", resample_ablation(donors))]
        assert_close(model.run_with_hooks(images, fwd_hooks=hooks), expected)


@pytest.mark.parametrize("name", [*HEADS_AT_2, *HEADS_AT_1])
def test_resampling_heads_takes_the_donors_activation(model, images, others, name) -> None:
    own, cache = (model.run_with_cache(each, names_filter=lambda name: True)[1] for each in (images, others))
    own = own[name]
    axis = 1 if name in HEADS_AT_1 else 2
    for donors, source in ((cache, cache[name]), (DONORS, torch.stack([own[2], own[0], own[1]]))):
        got = resample_ablation(donors, heads=[2])(own, hook=point(name))
        for head in range(N_HEADS):
            assert torch.equal(got.select(axis, head), (source if head == 2 else own).select(axis, head))


# ---------------------------------------------------------------------- gradients, dtype, device


def test_gradients_are_those_of_open_clip_ablated_the_same_way(model, images) -> None:
    mean = output_of(model.clip, images, mlp_out(model.clip, 1)).mean(0)
    means, donors = {"blocks.1.hook_mlp_out": mean}, DONORS
    cases = [
        ([("blocks.1.attn.hook_z", zero_ablation([0]))], without_heads(model.clip, 1, [0]), []),
        ([("blocks.1.attn.hook_pattern", zero_ablation([0]))], without_heads(model.clip, 1, [0]), []),
        (
            [("blocks.1.hook_mlp_out", mean_ablation(means, positions=[0]))],
            model.clip,
            [(mlp_out(model.clip, 1), lambda m, a, out: torch.cat([mean[:1].expand(BATCH, 1, -1), out[:, 1:]], 1))],
        ),
        (
            [("blocks.1.hook_mlp_out", resample_ablation(donors))],
            model.clip,
            [(mlp_out(model.clip, 1), lambda m, a, out: out[donors])],
        ),
    ]
    for hooks, clip, module_hooks in cases:
        assert_same_gradients(model, images, hooks, clip, module_hooks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_dtype_and_device_stay(dtype, device) -> None:
    name = "blocks.0.attn.hook_z"
    z = torch.ones(BATCH, 5, 2, 6, dtype=dtype, device=device)
    mean, donors = torch.full((5, 2, 6), 0.5, dtype=torch.float64), torch.full((BATCH, 5, 2, 6), 0.25)
    for hook, value in (
        (zero_ablation([1]), 0.0),
        (mean_ablation({name: mean}, [1]), 0.5),
        (resample_ablation({name: donors}, [1]), 0.25),
    ):
        replaced = hook(z, hook=point(name))
        assert (replaced.dtype, replaced.device, replaced.shape) == (z.dtype, z.device, z.shape)
        if device == "cpu":
            assert bool((replaced[:, :, 0] == 1).all())
            assert bool((replaced[:, :, 1] == value).all())


# ---------------------------------------------------------------------- decomposition


POINTS = ["attn.hook_z", "attn.hook_result", "attn.hook_pattern", "hook_attn_out", "hook_mlp_out", "mlp.hook_post"]


@pytest.mark.parametrize("kind", ["zero", "mean", "resample"])
@pytest.mark.parametrize("ablated", POINTS)
def test_the_ablated_model_decomposes(model, images, others, ablated, kind) -> None:
    heads = [1, 2] if ablated.startswith("attn.") else None
    names = [f"blocks.{l}.{ablated}" for l in (0, 2)]
    hook = {
        "zero": lambda: zero_ablation(heads),
        "mean": lambda: mean_ablation(activation_means(model, others, names), heads),
        "resample": lambda: resample_ablation(model.run_with_cache(others, names_filter=lambda name: True)[1], heads),
    }[kind]()
    with model.hooks(fwd_hooks=[(name, hook) for name in names]):
        embedding, cache = model.run_with_cache(images)
        for contributions in (decompose(model, cache, strict=True), model.decompose(images, strict=True)):
            assert_close(contributions.embedding, embedding)
            assert contributions.completeness_error() < 1e-12
            if kind == "zero" and heads:
                assert contributions.heads[:, 2, heads].abs().max() == 0
    assert (embedding - model(images)).abs().max() > 1e-3


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize("name", [*NO_HEADS, "hook_embed", "ln_final.hook_scale"])
def test_heads_where_there_are_none_are_refused(model, images, name) -> None:
    with pytest.raises(ValueError, match=rf"{name} has no heads.*hook_pattern.*hook_z"):
        model.run_with_hooks(images, fwd_hooks=[(name, zero_ablation([0]))])


@pytest.mark.parametrize("name", [*HEADS_AT_2, *HEADS_AT_1])
def test_unknown_heads_and_positions_are_refused(model, images, name) -> None:
    for heads in ([0, 4], [-5]):
        with pytest.raises(IndexError, match=rf"{name}: There is no head {heads[-1]}: there are 4, from 0 to 3"):
            model.run_with_hooks(images, fwd_hooks=[(name, zero_ablation(heads))])
    with pytest.raises(IndexError, match="There is no position 17: there are 17, from 0 to 16"):
        model.run_with_hooks(images, fwd_hooks=[(name, zero_ablation(positions=[17]))])


def test_a_mask_is_no_list_of_heads() -> None:
    with pytest.raises(ValueError, match=r"heads must be whole numbers.*\[0, 3\].*got \[True, False\]"):
        zero_ablation(heads=[True, False])
    with pytest.raises(ValueError, match="positions must be whole numbers"):
        zero_ablation(positions=[False, True])


def test_bad_means_and_donors_are_refused(model, images) -> None:
    name = "blocks.1.attn.hook_z"
    mean = torch.zeros(N_TOKENS, N_HEADS, D_HEAD, dtype=torch.float64)

    def run(hook) -> None:
        model.run_with_hooks(images, fwd_hooks=[(name, hook)])

    for of in (mean_ablation, resample_ablation):
        with pytest.raises(MissingActivationsError, match=rf"{name}.*of 1 the nearest are.*blocks\.0\.attn\.hook_z"):
            run(of({"blocks.0.attn.hook_z": mean}))
    with pytest.raises(ValueError, match=r"shape \[17, 4, 12\].*got \[1, 4, 12\]"):
        run(mean_ablation({name: mean[:1]}))
    with pytest.raises(ValueError, match=r"shape \[3, 17, 4, 12\].*got \[2, 17, 4, 12\]"):
        run(resample_ablation(model.run_with_cache(images[:2])[1]))
    with pytest.raises(ValueError, match=r"shape \[3\].*got \[2\]"):
        run(resample_ablation(DONORS[:2]))
    for outside in (torch.tensor([0, 1, 3]), torch.tensor([0, -4, 2])):
        with pytest.raises(IndexError, match=r"There is no donor in the batch .*: there are 3, from 0 to 2"):
            run(resample_ablation(outside))
