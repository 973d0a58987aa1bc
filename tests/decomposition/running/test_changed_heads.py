"""A hook of our own run that changes a head by the last bit is known, and one that changes nothing is not suspected."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch

from clip_lens_plugin import decompose
from clip_lens_plugin.decomposition.contributions import Contributions, TokensNotAvailableError
from tests.conftest import random_images

POINTS = ("hook_z", "hook_result")


def head_1(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    def hook(x: torch.Tensor, hook) -> torch.Tensor:
        x = x.clone()
        x[:, :, 1] = change(x[:, :, 1])
        return x

    return hook


def one_bit(x: torch.Tensor) -> torch.Tensor:
    """The same but for one number of the first image's first token, which is the next that the dtype has."""
    x = x.clone()
    x[0, 0, 2] = torch.nextafter(x[0, 0, 2], x.new_tensor(9.0))
    return x


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("change", [one_bit, lambda x: x * (1 + 3e-5)], ids=["one bit", "3e-5"])
def test_a_change_below_rounding_is_known(model, point, change):
    images = random_images(model)
    with model.hooks(fwd_hooks=[(f"blocks.1.attn.{point}", head_1(change))]):
        output = model(images).detach()
        found = model.decompose(images, tokens=True)
    assert not found.has_self_attention
    with pytest.raises(TokensNotAvailableError, match=r"replaced the output of \['L1H1'\]"):
        found.tokens(1, 0)
    assert list(found.head_edits) == ([1] if point == "hook_result" else [])
    assert found.tokens(0, 1).shape == (3, 17, 24)
    torch.testing.assert_close(found.total(), output, rtol=0, atol=1e-13)


def test_what_a_hook_adds_to_a_result_is_its_edit(model):
    """Far below what rounding could hide: the edit is what was added, taken through the last norm and projection."""
    images, direction = random_images(model), torch.linspace(-1, 1, model.cfg.d_model, dtype=torch.float64) * 1e-9
    plain = model.decompose(images)
    with model.hooks(fwd_hooks=[("blocks.2.attn.hook_result", head_1(lambda x: x + direction))]):
        found = model.decompose(images)
    sigma = model.run_with_cache(images)[1]["ln_final.hook_scale"][:, 0]
    visual = model.clip.visual
    expected = ((direction - direction.mean()) / sigma * visual.ln_post.weight) @ visual.proj
    torch.testing.assert_close(found.head_edits[2][:, 1], expected.detach(), rtol=1e-5, atol=0)
    assert found.head_edits[2][:, [0, 2, 3]].abs().max() == 0
    assert not plain.head_edits


@pytest.mark.parametrize("point", POINTS)
def test_hooks_that_change_nothing_or_other_tokens_leave_tokens(model, point):
    images = random_images(model)
    expected = model.decompose(images, tokens=True)

    def patches_alone(x: torch.Tensor, hook) -> torch.Tensor:
        return torch.cat([x[:, :1], x[:, 1:] * 2], 1)

    for layer, hook in ((1, lambda x, hook: x.clone()), (2, patches_alone)):
        with model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.{point}", hook)]):
            found = model.decompose(images, tokens=True)
        assert not found.head_edits
        torch.testing.assert_close(found.tokens(layer, 2), expected.tokens(layer, 2))
        torch.testing.assert_close(found.self_attention, expected.self_attention)


def test_a_head_that_is_changed_and_then_ablated_sends_nothing(model):
    hooks = [
        ("blocks.1.attn.hook_z", head_1(lambda z: z * 2)),
        ("blocks.1.attn.hook_result", head_1(torch.zeros_like)),
    ]
    images = random_images(model)
    with model.hooks(fwd_hooks=hooks):
        _, cache = model.run_with_cache(images)
        found = model.decompose(images, tokens=True)
    assert found.tokens(1, 1).abs().max() == 0
    assert found.tokens(1, 2).abs().max() > 0
    for name in ("blocks.1.attn.hook_z", "blocks.1.attn.hook_result"):
        assert not cache[name][:, :, 2].equal(torch.zeros_like(cache[name][:, :, 2]))
    of_cache = decompose(model, cache)
    assert of_cache.tokens(1, 1).abs().max() == 0
    torch.testing.assert_close(found.self_attention, of_cache.self_attention)


def test_a_hook_that_reads_changes_no_head_of_an_image_that_is_not_finite(model):
    images = random_images(model)
    images[1] = torch.nan
    heard = []
    with (
        pytest.warns(UserWarning, match="NaN"),
        model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", lambda z, hook: heard.append(z.shape))]),
    ):
        found = model.decompose(images, tokens=True)
    assert heard
    assert found.tokens(1, 1)[[0, 2]].isfinite().all()
    assert found.has_self_attention


def test_hooks_of_pytorch_are_known_too(model):
    images, point = random_images(model), model.blocks[1].attn.hook_z
    handles = [
        point.register_forward_hook(lambda module, given, z: z * (1 + 1e-12)),
        point.register_forward_pre_hook(lambda module, given: (given[0] * (1 + 1e-12),)),
    ]
    for handle in handles:
        alone = model.decompose(images, tokens=True)
        handle.remove()
        assert not alone.has_self_attention
        with pytest.raises(TokensNotAvailableError, match="L1H0"):
            alone.tokens(1, 0)
    assert model.decompose(images, tokens=True).has_self_attention
    assert not point._forward_pre_hooks


def test_it_is_taken_out_when_a_hook_fails(model):
    def fails(z: torch.Tensor, hook) -> torch.Tensor:
        raise RuntimeError("mine")

    with (
        pytest.raises(RuntimeError, match="mine"),
        model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", fails)]),
    ):
        model.decompose(random_images(model))
    assert not model.blocks[1].attn.hook_z._forward_pre_hooks


def test_a_text_towers_heads(model):
    text, texts = model.text, ["a dog", "three stars"]
    with text.hooks(fwd_hooks=[("blocks.0.attn.hook_z", head_1(lambda z: z * (1 + 1e-12)))]):
        found = text.decompose(texts, tokens=True)
    with pytest.raises(TokensNotAvailableError, match="L0H1"):
        found.tokens(0, 0)
    assert text.decompose(texts, tokens=True).tokens(0, 0).shape[0] == 2


def test_rows_and_runs_keep_what_is_known(model):
    images = random_images(model, 4)
    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", head_1(one_bit))]):
        changed = model.decompose(images[:2], tokens=True)
    plain = model.decompose(images[2:], tokens=True)
    for order in ([changed, plain], [plain, changed]):
        joined = Contributions.joined(order, 4)
        with pytest.raises(TokensNotAvailableError, match="L1H1"):
            joined.tokens(1, 0)
        first = [each is changed for each in order].index(True) * 2
        others = [row for row in range(4) if row != first]
        assert joined.select(torch.tensor(others)).tokens(1, 0).shape[0] == 3
        with pytest.raises(TokensNotAvailableError, match="L1H1"):
            joined.select(torch.tensor([first])).tokens(1, 0)


def test_what_earlier_versions_pickled_is_seen_from_the_numbers(model):
    images = random_images(model)
    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", head_1(lambda z: z * 2))]):
        parts = model.decompose(images, tokens=True)._parts
    state = {name: each for name, each in vars(parts).items() if name != "replaced"}
    again = pickle.loads(pickle.dumps(parts))
    assert again.replaced[1].equal(parts.replaced[1])
    earlier = object.__new__(type(parts))
    earlier.__setstate__(state)
    assert (earlier.hooked, earlier.replaced) == (None, {})
    earlier.__setstate__({**state, "hooked": frozenset()})
    assert earlier.hooked == frozenset()
