"""TransformerLens on top, as it stands: cache, hooks, patching, logit lens, against open_clip's modules."""

from __future__ import annotations

import copy
import itertools

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from transformer_lens import ActivationCache, patching
from transformer_lens.model_protocol import TransformerLensModelWithWeights
from transformer_lens.tools.analysis import logit_lens

from clip_lens_plugin import HookedCLIP
from tests.conftest import TOWERS, random_clip, random_images

pytestmark = pytest.mark.slow

LABELS = ["a dog", "a cat", "the sea", "two boats"]
N_LAYERS, N_HEADS, N_TOKENS, D_MLP = 3, 4, 17, 192


def assert_close(a: Tensor, b: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, check_dtype=False)


@pytest.fixture(scope="module", params=["plain", "layer_scale"])
def model(request: pytest.FixtureRequest, tokenizer) -> HookedCLIP:
    clip = random_clip(TOWERS[request.param], torch.float64).requires_grad_(False)
    return HookedCLIP.from_open_clip(clip, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def images(model: HookedCLIP) -> Tensor:
    return random_images(model)


@pytest.fixture(scope="module")
def cache(model: HookedCLIP, images: Tensor) -> ActivationCache:
    return model.run_with_cache(images)[1]


def inputs_and_outputs(clip: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What enters and leaves each module of open_clip's image tower while it encodes the images."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str):
        def hook(module, args, output) -> None:
            seen[name] = args[0], output[0] if isinstance(output, tuple) else output

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in clip.visual.named_modules() if name]
    clip.encode_image(images)
    for handle in handles:
        handle.remove()
    return seen


def head_result(clip: nn.Module, images: Tensor, layer: int, head: int) -> Tensor:
    """One head's share of the stream: open_clip's block with the other heads' output weights at zero."""
    block = clip.visual.transformer.resblocks[layer]
    stream = inputs_and_outputs(clip, images)[f"transformer.resblocks.{layer}"][0]
    attention = copy.deepcopy(block.attn)
    width = stream.shape[-1] // attention.num_heads
    attention.out_proj.weight[:, : head * width] = 0
    attention.out_proj.weight[:, (head + 1) * width :] = 0
    attention.out_proj.bias.zero_()
    normed = block.ln_1(stream)
    return block.ls_1(attention(normed, normed, normed, need_weights=False)[0])


def encode_with_added(clip: nn.Module, images: Tensor, layer: int, added: Tensor) -> Tensor:
    """M(I) with something added to the stream inside a block, before its MLP."""
    handle = clip.visual.transformer.resblocks[layer].ls_1.register_forward_hook(
        lambda module, args, output: output + added
    )
    try:
        return clip.encode_image(images)
    finally:
        handle.remove()


def stream_after(clip: nn.Module, images: Tensor, layer: int) -> Tensor:
    return inputs_and_outputs(clip, images)[f"transformer.resblocks.{layer}"][1]


# ---------------------------------------------------------------------- cache


def test_run_with_cache_gives_transformer_lens_own_cache(model: HookedCLIP, images: Tensor) -> None:
    embedding, cache = model.run_with_cache(images)
    assert type(cache) is ActivationCache
    assert isinstance(model, TransformerLensModelWithWeights)
    assert_close(embedding, model.clip.encode_image(images))
    assert_close(cache["resid_post", -1], stream_after(model.clip, images, N_LAYERS - 1))
    assert cache["pattern", 1].shape == (3, N_HEADS, N_TOKENS, N_TOKENS)
    assert type(model.run_with_cache(images, return_cache_object=False)[1]) is dict


@pytest.mark.parametrize(
    ("names_filter", "names"),
    [
        ("blocks.1.attn.hook_z", ["blocks.1.attn.hook_z"]),
        (["hook_embed", "ln_final.hook_scale"], ["hook_embed", "ln_final.hook_scale"]),
        (lambda name: name.endswith("mlp_out"), [f"blocks.{l}.hook_mlp_out" for l in range(N_LAYERS)]),
    ],
)
def test_names_filter(
    model: HookedCLIP, images: Tensor, cache: ActivationCache, names_filter, names: list[str]
) -> None:
    filtered = model.run_with_cache(images, names_filter=names_filter)[1]
    assert sorted(filtered.keys()) == sorted(names)
    for name in names:
        assert_close(filtered[name], cache[name])


@pytest.mark.parametrize(("pos_slice", "kept"), [(0, [0]), ((1, 4), [1, 2, 3]), ([5, 2], [5, 2])])
def test_pos_slice_keeps_copies_of_the_positions(
    model: HookedCLIP, images: Tensor, cache: ActivationCache, pos_slice, kept: list[int]
) -> None:
    sliced = model.run_with_cache(images, pos_slice=pos_slice)[1]
    assert set(sliced.keys()) == set(cache.keys())
    for name, value in sliced.items():
        heads_last = name.rpartition("_")[2] in {"q", "k", "v", "z", "result"}
        assert_close(value, cache[name][:, kept] if heads_last else cache[name][..., kept, :])
        assert value.untyped_storage().nbytes() == value.numel() * value.element_size(), name


def test_remove_batch_dim(model: HookedCLIP, images: Tensor, cache: ActivationCache) -> None:
    single = model.run_with_cache(images[1:2], remove_batch_dim=True)[1]
    assert not single.has_batch_dim
    for name, value in single.items():
        assert_close(value, cache[name][1])
    with pytest.raises(AssertionError, match="batch size 3"):
        model.run_with_cache(images, remove_batch_dim=True)


def test_cache_on_another_device(model: HookedCLIP, images: Tensor, cache: ActivationCache) -> None:
    moved = model.run_with_cache(images, device="meta")[1]
    assert {name: (value.device.type, value.shape) for name, value in moved.items()} == {
        name: ("meta", value.shape) for name, value in cache.items()
    }


# ---------------------------------------------------------------------- hooks


def without_head(layer: int, head: int) -> tuple:
    def hook(z: Tensor, hook) -> None:
        z[:, :, head] = 0

    return f"blocks.{layer}.attn.hook_z", hook


def test_run_with_hooks_ablates_a_head(model: HookedCLIP, images: Tensor) -> None:
    """As open_clip does with the head's columns of the output weight at zero."""
    clip = copy.deepcopy(model.clip)
    clip.visual.transformer.resblocks[1].attn.out_proj.weight[:, 24:36] = 0
    assert_close(model.run_with_hooks(images, fwd_hooks=[without_head(1, 2)]), clip.encode_image(images))
    assert_close(model(images), model.clip.encode_image(images))


def test_hooks_end_with_their_context_and_with_reset(model: HookedCLIP, images: Tensor) -> None:
    name, hook = without_head(0, 3)
    plain = model.clip.encode_image(images)
    ablated = encode_with_added(model.clip, images, 0, -head_result(model.clip, images, 0, 3))
    assert (ablated - plain).abs().max() > 1e-3
    with model.hooks(fwd_hooks=[(name, hook)]):
        assert_close(model(images), ablated)
    assert_close(model(images), plain)
    model.add_hook(name, hook)
    assert_close(model(images), ablated)
    model.reset_hooks()
    assert_close(model(images), plain)


# ---------------------------------------------------------------------- decompositions


def test_decompose_resid(model: HookedCLIP, images: Tensor, cache: ActivationCache) -> None:
    components, labels = cache.decompose_resid(return_labels=True)
    assert labels == ["embed", *(f"{l}_{part}_out" for l in range(N_LAYERS) for part in ("attn", "mlp"))]
    assert_close(components.sum(0), stream_after(model.clip, images, N_LAYERS - 1))
    seen = inputs_and_outputs(model.clip, images)
    for l in range(N_LAYERS):
        block = f"transformer.resblocks.{l}"
        assert_close(components[1 + 2 * l], seen[f"{block}.ls_1"][1])
        assert_close(components[2 + 2 * l], seen[f"{block}.ls_2"][1])
    assert_close(cache.decompose_resid(1, mlp_input=True).sum(0), seen["transformer.resblocks.1.ln_2"][0])
    assert_close(cache.decompose_resid(pos_slice=0).sum(0), seen["transformer"][1][:, 0])


def test_accumulated_resid(model: HookedCLIP, images: Tensor, cache: ActivationCache) -> None:
    streams, labels = cache.accumulated_resid(incl_mid=True, return_labels=True)
    seen = inputs_and_outputs(model.clip, images)
    expected = {"final_post": seen["transformer"][1]}
    for l in range(N_LAYERS):
        expected[f"{l}_pre"] = seen[f"transformer.resblocks.{l}"][0]
        expected[f"{l}_mid"] = seen[f"transformer.resblocks.{l}.ln_2"][0]
    assert sorted(labels) == sorted(expected)
    for label, stream in zip(labels, streams, strict=True):
        assert_close(stream, expected[label])


@pytest.mark.parametrize("cached_results", [True, False])
def test_stack_head_results(model: HookedCLIP, images: Tensor, cache: ActivationCache, cached_results: bool) -> None:
    """From ``hook_result``, and recomputed from z and ``W_O`` where it was not cached."""
    if cached_results:
        cache = model.run_with_cache(images, names_filter=lambda name: True)[1]
    assert ("blocks.1.attn.hook_result" in cache.keys()) == cached_results  # noqa: SIM118
    stack, labels = cache.stack_head_results(return_labels=True)
    assert labels == [f"L{l}H{h}" for l in range(N_LAYERS) for h in range(N_HEADS)]
    for result, (l, h) in zip(stack, itertools.product(range(N_LAYERS), range(N_HEADS)), strict=True):
        assert_close(result, head_result(model.clip, images, l, h))
    remainder = cache.stack_head_results(incl_remainder=True)
    assert_close(remainder.sum(0), stream_after(model.clip, images, N_LAYERS - 1))


@pytest.mark.parametrize("pos_slice", [None, 0])
@pytest.mark.parametrize("expand_neurons", [True, False])
def test_full_resid_decomposition(
    model: HookedCLIP, images: Tensor, cache: ActivationCache, expand_neurons: bool, pos_slice: int | None
) -> None:
    stack, labels = cache.get_full_resid_decomposition(
        expand_neurons=expand_neurons, pos_slice=pos_slice, return_labels=True
    )
    assert len(labels) == len(stack) == N_LAYERS * (N_HEADS + (D_MLP if expand_neurons else 1)) + 2
    stream = stream_after(model.clip, images, N_LAYERS - 1)
    assert_close(stack.sum(0), stream if pos_slice is None else stream[:, pos_slice])
    middle = cache.get_full_resid_decomposition(layer=2, expand_neurons=expand_neurons, pos_slice=pos_slice)
    stream = stream_after(model.clip, images, 1)
    assert_close(middle.sum(0), stream if pos_slice is None else stream[:, pos_slice])


def test_stack_neuron_results(model: HookedCLIP, images: Tensor, cache: ActivationCache) -> None:
    stack, labels = cache.stack_neuron_results(layer=2, pos_slice=0, return_labels=True)
    assert len(labels) == 2 * D_MLP
    block = model.clip.visual.transformer.resblocks[1]
    activations = inputs_and_outputs(model.clip, images)["transformer.resblocks.1.mlp.gelu"][1]
    expected = block.ls_2(activations[:, 0, 5, None] * block.mlp.c_proj.weight[:, 5])
    assert_close(stack[labels.index("L1N5")], expected)
    whole = cache.stack_neuron_results(layer=-1, pos_slice=0, incl_remainder=True)
    assert_close(whole.sum(0), stream_after(model.clip, images, N_LAYERS - 1)[:, 0])


def test_apply_ln_to_stack(model: HookedCLIP, images: Tensor, cache: ActivationCache) -> None:
    """The components after the cached LayerNorm, with γ and β, sum to what open_clip's LayerNorm gives."""
    seen = inputs_and_outputs(model.clip, images)
    visual = model.clip.visual
    for layer, mlp_input, norm, name in [
        (None, False, visual.ln_post, "ln_post"),
        (1, False, visual.transformer.resblocks[1].ln_1, "transformer.resblocks.1.ln_1"),
        (1, True, visual.transformer.resblocks[1].ln_2, "transformer.resblocks.1.ln_2"),
    ]:
        stack = cache.decompose_resid(layer, mlp_input=mlp_input)
        scaled = cache.apply_ln_to_stack(stack, layer, mlp_input=mlp_input)
        assert_close(scaled.sum(0) * norm.weight + norm.bias, seen[name][1])


# ---------------------------------------------------------------------- text labels


def dot_products(model: HookedCLIP, images: Tensor) -> Tensor:
    """M(I) · e_t by open_clip alone."""
    texts = model.clip.encode_text(model.tokenizer(LABELS), normalize=True)
    return model.clip.encode_image(images) @ texts.T


@pytest.mark.parametrize("expand_neurons", [True, False])
def test_logit_attrs_of_text_labels(
    model: HookedCLIP, images: Tensor, cache: ActivationCache, expand_neurons: bool
) -> None:
    """Over the full decomposition they and βP · e_t sum to M(I) · e_t."""
    model.set_labels(LABELS)
    stack = cache.get_full_resid_decomposition(expand_neurons=expand_neurons, pos_slice=0)
    expected = dot_products(model, images)
    beta = model.clip.visual.ln_post.bias @ model.clip.visual.proj @ model.labels.embeddings.T
    for t, label in enumerate(LABELS):
        attrs = cache.logit_attrs(stack, label, pos_slice=0)
        assert attrs.shape == stack.shape[:2]
        assert_close(attrs.sum(0) + beta[t], expected[:, t])
    assert_close(cache.logit_attrs(stack, 2, pos_slice=0).sum(0) + beta[2], expected[:, 2])

    own = torch.tensor([3, 0, 1])  # a label for each image
    attrs = cache.logit_attrs(stack, own, pos_slice=0)
    assert_close(attrs.sum(0) + beta[own], expected[torch.arange(3), own])
    difference = cache.logit_attrs(stack, "a dog", incorrect_tokens="the sea", pos_slice=0)
    assert_close(difference.sum(0) + beta[0] - beta[2], expected[:, 0] - expected[:, 2])


def test_logit_lens_on_text_labels(model: HookedCLIP, images: Tensor, cache: ActivationCache) -> None:
    model.set_labels(LABELS)
    lens = logit_lens(model, cache=cache, positions=0)
    assert lens.labels == ["0_pre", "1_pre", "2_pre", "final_post"]
    assert_close(lens.values[-1], dot_products(model, images))
    visual = model.clip.visual
    texts = model.clip.encode_text(model.tokenizer(LABELS), normalize=True)
    seen = inputs_and_outputs(model.clip, images)
    for l in range(N_LAYERS):
        stream = seen[f"transformer.resblocks.{l}"][0]
        assert_close(lens.values[l], visual.ln_post(stream)[:, 0] @ visual.proj @ texts.T)
    assert_close(cache.logit_lens(positions=0).values, lens.values)
    ranks = logit_lens(model, cache=cache, positions=0, targets=["the sea"]).rank_trajectory("the sea")
    order = dot_products(model, images).argsort(dim=-1, descending=True)
    assert torch.equal(ranks[-1], (order == 2).nonzero()[:, 1])


# ---------------------------------------------------------------------- patching


@pytest.fixture
def clean(images: Tensor) -> Tensor:
    return images[:1]


@pytest.fixture
def corrupted(images: Tensor) -> Tensor:
    return images[1:2]


def test_patching_heads_from_one_image_into_another(model: HookedCLIP, clean: Tensor, corrupted: Tensor) -> None:
    """TransformerLens's function as it is; directly: a head's two results' difference added to the stream."""
    direction = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    effects = patching.get_act_patch_attn_head_out_all_pos(
        model, corrupted, model.run_with_cache(clean)[1], lambda embedding: (embedding @ direction).sum()
    )
    assert effects.shape == (N_LAYERS, N_HEADS)
    for l, h in itertools.product(range(N_LAYERS), range(N_HEADS)):
        added = head_result(model.clip, clean, l, h) - head_result(model.clip, corrupted, l, h)
        expected = encode_with_added(model.clip, corrupted, l, added)[0] @ direction
        assert_close(effects[l, h], expected, 1e-6)  # TransformerLens collects them in float32


def test_patching_the_stream_at_each_position(model: HookedCLIP, clean: Tensor, corrupted: Tensor) -> None:
    """The positions are given: TransformerLens would read their number off the input's last dimension."""
    direction = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    index = pd.DataFrame(list(itertools.product(range(N_LAYERS), range(N_TOKENS))), columns=["layer", "pos"])
    effects = patching.generic_activation_patch(
        model,
        corrupted,
        model.run_with_cache(clean)[1],
        lambda embedding: (embedding @ direction).sum(),
        patch_setter=patching.layer_pos_patch_setter,
        activation_name="resid_pre",
        index_df=index,
    )
    assert effects.shape == (N_LAYERS * N_TOKENS,)
    clean_streams = inputs_and_outputs(model.clip, clean)
    for effect, layer, position in zip(effects, index.layer, index.pos, strict=True):
        source = clean_streams[f"transformer.resblocks.{layer}"][0]

        def patched(module, args, source=source, position=position):
            stream = args[0].clone()
            stream[:, position] = source[:, position]
            return (stream, *args[1:])

        handle = model.clip.visual.transformer.resblocks[layer].register_forward_pre_hook(patched)
        expected = model.clip.encode_image(corrupted)[0] @ direction
        handle.remove()
        assert_close(effect, expected, 1e-6)
