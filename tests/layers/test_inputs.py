"""Hook points of what heads and MLPs read: alive while on, the model as it was otherwise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.layers.inputs import SPLIT, SWITCHES
from tests.conftest import random_images
from tests.support.families import FAMILIES

KINDS = ["custom", "EVA-02, post-norm", "PE"]
EXACT = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> HookedCLIP:
    """With norms of queries, keys and heads; with no norm before the heads; with rotary positions and a pool."""
    return HookedCLIP.from_open_clip(FAMILIES[request.param]().double().requires_grad_(False))


@pytest.fixture(autouse=True)
def switched_off_again(model: HookedCLIP):
    yield
    model.reset_hooks()
    for switch in SWITCHES:
        getattr(model, f"set_{switch}")(False)


def switch_on(model: HookedCLIP, switch: str) -> list[str]:
    getattr(model, f"set_{switch}")(True)
    return [f"blocks.1.{point}" for point in SWITCHES[switch]]


def same(x: Tensor, hook) -> Tensor:
    return x


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_hook_that_only_listens_leaves_the_model_as_it_is(model: HookedCLIP, switch: str) -> None:
    images = random_images(model)
    plain, before = model(images), list(model.hook_dict)
    points = switch_on(model, switch)
    assert set(points) <= set(model.hook_dict) - set(before)
    assert torch.equal(model(images), plain), "nothing is copied where nobody listens"
    torch.testing.assert_close(
        model.run_with_hooks(images, fwd_hooks=[(each, same) for each in points]), plain, **EXACT
    )
    cache = model.run_with_cache(images, names_filter=[*points, "blocks.1.hook_resid_pre", "blocks.1.hook_resid_mid"])[
        1
    ]
    for name in points:
        stream = cache["resid_mid" if name.endswith("mlp_in") else "resid_pre", 1]
        heads = [] if name.endswith("mlp_in") else [model.cfg.n_heads]
        assert cache[name].shape == (*stream.shape[:2], *heads, model.cfg.d_model)
        assert all(torch.equal(each, stream) for each in (cache[name].unbind(2) if heads else [cache[name]]))
    getattr(model, f"set_{switch}")(False)
    assert list(model.hook_dict) == before
    assert torch.equal(model(images), plain)


@pytest.mark.parametrize("letter", "qkv")
def test_an_input_moves_its_own_head_and_no_other(model: HookedCLIP, letter: str) -> None:
    """What head 2 then has is what the whole layer has where the stream itself is edited, before queries are turned."""
    images, made = random_images(model), f"blocks.1.attn.hook_{letter}"
    generator = torch.Generator().manual_seed(3)
    push = torch.randn(model.cfg.n_ctx, model.cfg.d_model, generator=generator, dtype=torch.float64)

    def edit(x: Tensor, hook) -> None:
        x[:, :, 2] += push

    def edit_all(x: Tensor, hook) -> Tensor:
        return x + push

    def made_under(name: str, hook: Callable) -> Tensor:
        with model.hooks(fwd_hooks=[(name, hook)]):
            return model.run_with_cache(images, names_filter=made)[1][made]

    plain = made_under("hook_embed", same)
    expected = made_under("blocks.1.hook_resid_pre", edit_all)
    assert (expected - plain).abs().max() > 0.1
    model.set_use_split_qkv_input(True)
    for name in (f"blocks.1.hook_{letter}_input", f"blocks.1.attn.hook_{letter}_input"):
        found = made_under(name, edit)
        torch.testing.assert_close(found[:, :, 2], expected[:, :, 2], **EXACT)
        torch.testing.assert_close(found[:, :, [0, 1, 3]], plain[:, :, [0, 1, 3]], **EXACT)
    others = [f"blocks.1.attn.hook_{each}" for each in "qkv" if each != letter]
    with model.hooks(fwd_hooks=[(f"blocks.1.hook_{letter}_input", edit)]):
        cache = model.run_with_cache(images, names_filter=others)[1]
    for name in others:
        torch.testing.assert_close(cache[name], model.run_with_cache(images, names_filter=name)[1][name], **EXACT)


def test_the_shared_input_moves_queries_keys_and_values(model: HookedCLIP) -> None:
    images = random_images(model)

    def edit(x: Tensor, hook) -> Tensor:
        return x.cos()

    model.set_use_split_qkv_input(True)
    expected = model.run_with_hooks(images, fwd_hooks=[(f"blocks.2.{point}", edit) for point in SPLIT])
    with pytest.raises(ValueError, match=r"exclude each other: call model.set_use_split_qkv_input\(False\) first"):
        model.set_use_attn_in(True)
    model.set_use_split_qkv_input(False)
    model.set_use_attn_in(True)
    found = model.run_with_hooks(images, fwd_hooks=[("blocks.2.hook_attn_in", edit)])
    torch.testing.assert_close(found, expected, **EXACT)
    assert (found - model(images)).abs().max() > 1e-3


def test_the_mlps_input_moves_the_mlp_and_not_the_stream(model: HookedCLIP) -> None:
    images, layer = random_images(model), model.cfg.n_layers - 1

    def edit(x: Tensor, hook) -> None:
        x *= 0.5

    model.set_use_hook_mlp_in(True)
    names = [f"blocks.{layer}.{each}" for each in ("hook_resid_mid", "hook_mlp_out", "hook_resid_post")]
    with model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_mlp_in", edit)]):
        mid, written, post = model.run_with_cache(images, names_filter=names)[1].values()
    block = model.blocks[layer]
    read = mid * 0.5
    torch.testing.assert_close(written, block.mlp(block.ln2(read) if hasattr(block, "ln2") else read), **EXACT)
    torch.testing.assert_close(post, mid + written, **EXACT)
    assert torch.equal(mid, model.run_with_cache(images, names_filter=names[0])[1][names[0]])


@pytest.mark.parametrize("part", ["hook_scale", "hook_normalized"])
def test_an_edit_of_the_norm_moves_every_copy_alike(model: HookedCLIP, part: str) -> None:
    if not hasattr(model.blocks[1], "ln1"):
        pytest.skip("no norm before the heads")
    images = random_images(model)
    norm = (f"blocks.1.ln1.{part}", lambda x, hook: 1.3 * x)
    expected = model.run_with_hooks(images, fwd_hooks=[norm])
    points = switch_on(model, "use_split_qkv_input")
    found = model.run_with_hooks(images, fwd_hooks=[norm, *((each, same) for each in points)])
    torch.testing.assert_close(found, expected, **EXACT)
    assert (found - model(images)).abs().max() > 1e-3


def test_gradients_of_the_copies_are_what_flows_back_through_the_heads(model: HookedCLIP) -> None:
    """Since mid = pre + attn(pre), they sum to what the stream's gradient gains before the heads."""
    images, kept = random_images(model).requires_grad_(), {}
    points = switch_on(model, "use_split_qkv_input")
    names = [*points, "blocks.1.hook_resid_pre", "blocks.1.hook_resid_mid"]
    hooks = [(each, lambda x, hook, each=each: kept.__setitem__(each, x.clone())) for each in names]
    with model.hooks(fwd_hooks=[(each, same) for each in points], bwd_hooks=hooks):
        model(images).square().sum().backward()
    gained = kept["blocks.1.hook_resid_pre"] - kept["blocks.1.hook_resid_mid"]
    torch.testing.assert_close(sum(kept[each].sum(2) for each in points), gained, rtol=1e-9, atol=1e-9)
    assert gained.abs().max() > 1e-3
