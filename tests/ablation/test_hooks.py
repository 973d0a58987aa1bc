"""Total effects of ablation, against open_clip run with edited weights or with torch's own module hooks."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin import HookedCLIP, decompose
from clip_lens_plugin.ablation.hooks import (
    ActivationMeans,
    activation_means,
    class_self_attention_hooks,
    class_self_attention_messages,
    mean_ablation,
    resample_ablation,
    zero_ablation,
)
from clip_lens_plugin.factors import MissingActivationsError
from tests.conftest import TOWERS, random_clip, random_images

N_LAYERS, N_HEADS, N_TOKENS, D_HEAD, BATCH = 3, 4, 17, 12, 3
HEADS_AT_2 = [f"blocks.1.attn.hook_{point}" for point in ("q", "k", "v", "z", "result")]
HEADS_AT_1 = [f"blocks.1.attn.hook_{point}" for point in ("attn_scores", "pattern")]
NO_HEADS = [f"blocks.1.{point}" for point in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "mlp.hook_post")]
DONORS = torch.tensor([2, 0, 1])


def assert_close(a: Tensor, b: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module", params=["plain", "layer_scale"])
def model(request: pytest.FixtureRequest) -> HookedCLIP:
    return HookedCLIP.from_open_clip(random_clip(TOWERS[request.param], torch.float64).requires_grad_(False))


@pytest.fixture(scope="module")
def images(model: HookedCLIP) -> Tensor:
    return random_images(model)


@pytest.fixture(scope="module")
def others(model: HookedCLIP) -> Tensor:
    return random_images(model, seed=1)


def point(name: str) -> HookPoint:
    hook_point = HookPoint()
    hook_point.name = name
    return hook_point


def encode_with(clip: nn.Module, images: Tensor, hooks: list[tuple[nn.Module, Callable]]) -> Tensor:
    """open_clip's M(I) with torch's own forward hooks on its modules."""
    with ExitStack() as stack:
        for module, hook in hooks:
            stack.callback(module.register_forward_hook(hook).remove)
        return clip.encode_image(images)


def mlp_out(clip: nn.Module, layer: int) -> nn.Module:
    return clip.visual.transformer.resblocks[layer].ls_2


def output_of(clip: nn.Module, images: Tensor, module: nn.Module) -> Tensor:
    seen: list[Tensor] = []
    encode_with(clip, images, [(module, lambda module, args, output: seen.append(output))])
    return seen[0]


def without_heads(clip: nn.Module, layer: int, heads: list[int]) -> nn.Module:
    """A copy whose attention cannot read these heads: their columns of the output weight are zero."""
    clip = copy.deepcopy(clip)
    for head in heads:
        weight = clip.visual.transformer.resblocks[layer].attn.out_proj.weight
        weight[:, head * D_HEAD : (head + 1) * D_HEAD] = 0
    return clip


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
    activation = model.run_with_cache(images)[1][name]
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
    mean = model.run_with_cache(images)[1][name].mean(0)

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
    cache = model.run_with_cache(others)[1]
    donated = output_of(model.clip, others, mlp_out(model.clip, 1))
    expected = encode_with(model.clip, images, [(mlp_out(model.clip, 1), lambda module, args, output: donated)])
    for donors in (cache, cache.cache_dict):
        hooks = [("blocks.1.hook_mlp_out", resample_ablation(donors))]
        assert_close(model.run_with_hooks(images, fwd_hooks=hooks), expected)


@pytest.mark.parametrize("name", [*HEADS_AT_2, *HEADS_AT_1])
def test_resampling_heads_takes_the_donors_activation(model, images, others, name) -> None:
    own, cache = model.run_with_cache(images)[1][name], model.run_with_cache(others)[1]
    axis = 1 if name in HEADS_AT_1 else 2
    for donors, source in ((cache, cache[name]), (DONORS, torch.stack([own[2], own[0], own[1]]))):
        got = resample_ablation(donors, heads=[2])(own, hook=point(name))
        for head in range(N_HEADS):
            assert torch.equal(got.select(axis, head), (source if head == 2 else own).select(axis, head))


# ---------------------------------------------------------------------- gradients, dtype, device


def test_gradients_are_those_of_open_clip_ablated_the_same_way(model, images) -> None:
    mean = output_of(model.clip, images, mlp_out(model.clip, 1)).mean(0)
    means, donors = {"blocks.1.hook_mlp_out": mean}, DONORS
    message_hooks = class_self_attention_hooks(model, [0, 2])
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
        (message_hooks, model.clip, self_message_hooks(model.clip, dict.fromkeys((0, 2), None))),
    ]
    direction = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.arange(1.0, BATCH + 1, dtype=torch.float64)
    for hooks, clip, module_hooks in cases:
        pixels = images.clone().requires_grad_()
        ours = torch.autograd.grad((model.run_with_hooks(pixels, fwd_hooks=hooks) @ direction) @ weights, pixels)[0]
        theirs = torch.autograd.grad((encode_with(clip, pixels, module_hooks) @ direction) @ weights, pixels)[0]
        assert_close(ours, theirs)
        assert ours.abs().max() > 1e-3


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
        "resample": lambda: resample_ablation(model.run_with_cache(others)[1], heads),
    }[kind]()
    with model.hooks(fwd_hooks=[(name, hook) for name in names]):
        embedding, cache = model.run_with_cache(images)
        for contributions in (decompose(model, cache, strict=True), model.decompose(images, strict=True)):
            assert_close(contributions.embedding, embedding)
            assert contributions.completeness_error() < 1e-12
            if kind == "zero" and heads:
                assert contributions.heads[:, 2, heads].abs().max() == 0
    assert (embedding - model(images)).abs().max() > 1e-3


# ---------------------------------------------------------------------- means over images


@pytest.mark.parametrize("names", ["hook_embed", ["blocks.2.attn.hook_pattern"], lambda name: name.startswith("ln_f")])
def test_activation_means_are_those_of_the_whole_cache(model, names) -> None:
    images = random_images(model, 7)
    cache = model.run_with_cache(images, names_filter=names)[1]
    for batch_size in (3, 32):
        means = activation_means(model, images, names, batch_size=batch_size)
        assert sorted(means) == sorted(cache.keys())
        for name, mean in means.items():
            assert_close(mean, cache[name].mean(0))


def test_means_of_a_stream_are_those_of_all_images(model) -> None:
    images = random_images(model, 7)
    running = ActivationMeans(model, "blocks.0.hook_mlp_out")
    for batch in images.split([1, 4, 2]):
        running.add(batch)
    assert running.n == 7
    expected = output_of(model.clip, images, mlp_out(model.clip, 0)).mean(0)
    assert_close(running.means()["blocks.0.hook_mlp_out"], expected)


def test_means_are_of_the_model_as_hooked(model, images) -> None:
    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", zero_ablation([1]))]):
        means = activation_means(model, images, ["blocks.0.attn.hook_z", "blocks.1.hook_mlp_out"])
    assert means["blocks.0.attn.hook_z"][:, 1].abs().max() == 0
    ablated = without_heads(model.clip, 0, [1])
    assert_close(means["blocks.1.hook_mlp_out"], output_of(ablated, images, mlp_out(ablated, 1)).mean(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_means_are_float32_and_summed_in_float64(dtype, batch_size) -> None:
    """2²⁷ + 1 − 2²⁷ is 0 in float32 and 1 in float64."""
    model = HookedCLIP.from_open_clip(random_clip(dtype=dtype))
    values = iter(torch.tensor([2.0**27, 1.0, -(2.0**27)]).split(batch_size))

    def plant(stream: Tensor, hook) -> Tensor:
        return next(values).to(dtype)[:, None, None].expand(stream.shape).contiguous()

    with model.hooks(fwd_hooks=[("blocks.2.hook_resid_post", plant)]):
        mean = activation_means(model, random_images(model), "blocks.2.hook_resid_post", batch_size)
    expected = torch.full((N_TOKENS, N_HEADS * D_HEAD), 1 / 3)
    torch.testing.assert_close(mean["blocks.2.hook_resid_post"], expected)


# ---------------------------------------------------------------------- the class token's attention to itself


def self_message(attention: nn.MultiheadAttention, normed: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √k)[0, 0] · V[0] of each head [b, h, k], from the weights alone."""
    q, k, v = (normed @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    by_head = []
    for head in range(N_HEADS):
        columns = slice(head * D_HEAD, (head + 1) * D_HEAD)
        scores = (k[..., columns] @ q[:, 0, columns, None]).squeeze(-1) / D_HEAD**0.5
        weight = scores[:, 0].exp() / scores.exp().sum(-1)
        by_head.append(weight[:, None] * v[:, 0, columns])
    return torch.stack(by_head, dim=1)


def self_message_hooks(clip: nn.Module, replacements: dict[int, Tensor | None]) -> list[tuple[nn.Module, Callable]]:
    """torch hooks on open_clip's attention modules that write the replacement in place of the message."""

    def hook(module, args, output, replacement):
        message = self_message(module, args[0])
        change = (0.0 if replacement is None else replacement) - message
        written = torch.zeros_like(output[0])
        written[:, 0] = change.flatten(1) @ module.out_proj.weight.T
        return (output[0] + written, *output[1:])

    blocks = clip.visual.transformer.resblocks
    return [
        (blocks[l].attn, lambda module, args, output, given=given: hook(module, args, output, given))
        for l, given in replacements.items()
    ]


def messages_by_open_clip(clip: nn.Module, images: Tensor, layer: int) -> Tensor:
    seen: list[Tensor] = []
    module = clip.visual.transformer.resblocks[layer].attn
    encode_with(clip, images, [(module, lambda module, args, output: seen.append(self_message(module, args[0])))])
    return seen[0]


def test_messages_are_those_of_open_clip(model) -> None:
    images = random_images(model, 5)
    messages = class_self_attention_messages(model, images, [-1, 0], batch_size=2)
    assert list(messages) == [2, 0]
    for layer, message in messages.items():
        assert message.shape == (5, N_HEADS, D_HEAD)
        assert_close(message, messages_by_open_clip(model.clip, images, layer))


@pytest.mark.parametrize("layers", [[1], [0, 1, 2], [-1, 2]])
@pytest.mark.parametrize("kind", ["zero", "mean", "resample"])
def test_class_self_attention_ablation_is_that_of_open_clip(model, images, others, layers, kind) -> None:
    donors = class_self_attention_messages(model, others, layers)
    replacement = {
        "zero": None,
        "mean": {l: messages.mean(0) for l, messages in donors.items()},
        "resample": donors,
    }[kind]
    by_layer = dict.fromkeys(donors, None) if replacement is None else replacement
    expected = encode_with(model.clip, images, self_message_hooks(model.clip, by_layer))
    hooks = class_self_attention_hooks(model, layers, replacement)
    assert_close(model.run_with_hooks(images, fwd_hooks=hooks), expected)
    assert (expected - model.clip.encode_image(images)).abs().max() > 1e-3
    with model.hooks(fwd_hooks=hooks):
        decomposed = [decompose(model, model.run_with_cache(images)[1], strict=True), model.decompose(images)]
    for contributions in decomposed:
        assert_close(contributions.total(), expected)


def test_only_z_of_the_class_token_changes_and_in_a_copy(model, images) -> None:
    cache = model.run_with_cache(images)[1]
    z = cache["z", 1].clone()
    (_, see_value), (_, see_pattern), (name, replace) = class_self_attention_hooks(model, [1])
    see_value(cache["v", 1], hook=point("blocks.1.attn.hook_v"))
    see_pattern(cache["pattern", 1], hook=point("blocks.1.attn.hook_pattern"))
    changed = replace(z, hook=point(name))
    assert torch.equal(z, cache["z", 1])
    assert torch.equal(changed[:, 1:], z[:, 1:])
    assert_close(z[:, 0] - changed[:, 0], messages_by_open_clip(model.clip, images, 1))


def test_the_messages_themselves_change_nothing(model, images) -> None:
    own = class_self_attention_messages(model, images, range(N_LAYERS))
    hooks = class_self_attention_hooks(model, range(N_LAYERS), own)
    assert_close(model.run_with_hooks(images, fwd_hooks=hooks), model.clip.encode_image(images))


def test_an_edit_of_the_pattern_before_counts(model, images) -> None:
    """A head whose pattern is zero sends nothing, so nothing is taken from it."""
    silent = ("blocks.1.attn.hook_pattern", zero_ablation())
    hooks = [silent, *class_self_attention_hooks(model, [1])]
    expected = without_heads(model.clip, 1, list(range(N_HEADS))).encode_image(images)
    assert_close(model.run_with_hooks(images, fwd_hooks=hooks), expected)


def alive_messages(batch: int) -> int:
    gc.collect()
    shape = (batch, N_HEADS, D_HEAD)
    return sum(type(each) is Tensor and each.shape == shape for each in gc.get_objects())


def test_nothing_is_remembered_after_a_run(model) -> None:
    images = random_images(model, 5)
    hooks = class_self_attention_hooks(model, [0, 1])
    model.run_with_hooks(images, fwd_hooks=hooks)
    assert alive_messages(5) == 0
    model.run_with_hooks(images, fwd_hooks=hooks[:2])
    assert alive_messages(5) == 1


def test_runs_do_not_mix(model, images) -> None:
    """The same hooks after a run that broke off between the pattern and z, and on a batch of another size."""
    hooks = class_self_attention_hooks(model, [0, 1])
    expected = encode_with(model.clip, images, self_message_hooks(model.clip, {0: None, 1: None}))

    def fail(z: Tensor, hook) -> None:
        raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match="broken off"):
        model.run_with_hooks(images.flip(0), fwd_hooks=[("blocks.1.attn.hook_z", fail), *hooks])
    assert_close(model.run_with_hooks(images, fwd_hooks=hooks), expected)
    assert_close(model.run_with_hooks(images[:1], fwd_hooks=hooks), expected[:1])


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize("name", [*NO_HEADS, "hook_embed", "ln_final.hook_scale"])
def test_heads_where_there_are_none_are_refused(model, images, name) -> None:
    with pytest.raises(ValueError, match=rf"{name} has no heads.*hook_pattern.*hook_z"):
        model.run_with_hooks(images, fwd_hooks=[(name, zero_ablation([0]))])


@pytest.mark.parametrize("name", [*HEADS_AT_2, *HEADS_AT_1])
def test_unknown_heads_and_positions_are_refused(model, images, name) -> None:
    for heads in ([0, 4], [-5]):
        with pytest.raises(IndexError, match=rf"{name} has heads 0 to 3, got \[{heads[-1]}\]"):
            model.run_with_hooks(images, fwd_hooks=[(name, zero_ablation(heads))])
    with pytest.raises(IndexError, match="positions 0 to 16, got"):
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
    for outside in (torch.tensor([0, 1, 3]), torch.tensor([0, -1, 2])):
        with pytest.raises(IndexError, match="positions in the batch, 0 to 2"):
            run(resample_ablation(outside))


def test_bad_names_and_images_are_refused(model, images) -> None:
    with pytest.raises(ValueError, match=r"no hook point 'blocks.1.hook_z'.*blocks\.1\.attn\.hook_z"):
        activation_means(model, images, ["hook_embed", "blocks.1.hook_z"])
    for none in ([], lambda name: False):
        with pytest.raises(ValueError, match=r"No hook point was named.*hook_embed"):
            activation_means(model, images, none)
    with pytest.raises(ValueError, match="No image was added"):
        activation_means(model, images[:0], "hook_embed")
    running = ActivationMeans(model, "hook_embed")
    running.add(images)
    with pytest.raises(ValueError, match="hook_embed of these 1 images has NaN"):
        running.add(images[:1] * float("nan"))
    assert running.n == BATCH
    assert bool(running.means()["hook_embed"].isfinite().all())


def test_bad_messages_and_layers_are_refused(model, images) -> None:
    message = torch.zeros(N_HEADS, D_HEAD, dtype=torch.float64)
    with pytest.raises(IndexError, match="no layer 3"):
        class_self_attention_hooks(model, [0, 3])
    with pytest.raises(IndexError, match="no layer -4"):
        class_self_attention_messages(model, images, [-4])
    with pytest.raises(ValueError, match="no images"):
        class_self_attention_messages(model, images[:0], [0])
    with pytest.raises(ValueError, match=r"for layer 1, only for layers \[0\]"):
        class_self_attention_hooks(model, [0, 1], {0: message})
    for wrong in (message.T, message[0], message[None, None]):
        with pytest.raises(ValueError, match=r"shape \[4, 12\] or \[batch, 4, 12\]"):
            class_self_attention_hooks(model, [0], {0: wrong})
    donors = class_self_attention_hooks(model, [0], {0: message[None]})
    with pytest.raises(ValueError, match=r"shape \[3, 4, 12\].*got \[1, 4, 12\]"):
        model.run_with_hooks(images, fwd_hooks=donors)
    hooks = class_self_attention_hooks(model, [0])
    model.run_with_hooks(images, fwd_hooks=hooks[:2])  # leaves a message that no later run may take
    for incomplete in (hooks[:1] + hooks[2:], hooks[2:], hooks[1:], [*hooks, hooks[2]]):
        with pytest.raises(ValueError, match="Pass every pair"):
            model.run_with_hooks(images, fwd_hooks=incomplete)
