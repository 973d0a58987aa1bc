"""What the class token sends to itself is the part of each head that its own token brings; rows can be picked."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import decompose
from clip_lens_plugin.decomposition import contributions as contributions_module
from clip_lens_plugin.decomposition.contributions import TokensNotAvailableError
from clip_lens_plugin.decomposition.running import changed_heads
from tests.conftest import random_images

pytestmark = pytest.mark.slow


def by_tokens(contributions) -> torch.Tensor:
    """The first source token's contribution, summed over heads [b, l, e]."""
    heads = range(contributions.readout.n_heads)
    layers = range(contributions.n_layers)
    return torch.stack([sum(contributions.tokens(l, h)[:, 0] for h in heads) for l in layers], dim=1)


def test_it_is_the_first_tokens_part_of_all_heads(tower):
    images = random_images(tower)
    if tower.cfg.pooling != "class_token":
        with pytest.raises(TokensNotAvailableError, match="does not pool the class token"):
            _ = tower.decompose(images).self_attention
        return
    _, cache = tower.run_with_cache(images)
    expected = by_tokens(tower.decompose(images, tokens=True))
    assert expected.norm(dim=-1).min() > 0
    torch.testing.assert_close(tower.decompose(images).self_attention, expected)
    torch.testing.assert_close(tower.decompose(images, batch_size=2).self_attention, expected)
    torch.testing.assert_close(decompose(tower, cache).self_attention, expected)


def test_it_restates_the_attention_of_the_class_token(model):
    """A[0, 0] v_0 W_O summed over heads, centred, over σ, times γP: written out from the cache and the weights."""
    images = random_images(model)
    _, cache = model.run_with_cache(images)
    tower = model.clip.visual
    sigma = (cache["blocks.2.hook_resid_post"][:, 0].var(-1, unbiased=False) + tower.ln_post.eps).sqrt()[:, None]
    for layer in range(3):
        w_o = tower.transformer.resblocks[layer].attn.out_proj.weight
        message = cache["pattern", layer][:, :, 0, 0, None] * cache["v", layer][:, 0]
        stream = message.flatten(1) @ w_o.T
        expected = ((stream - stream.mean(-1, keepdim=True)) / sigma * tower.ln_post.weight) @ tower.proj
        torch.testing.assert_close(decompose(model, cache).self_attention[:, layer], expected)


def test_normalized_divides_it_by_the_norm(model):
    contributions = model.decompose(random_images(model))
    expected = contributions.self_attention / contributions.embedding.norm(dim=-1)[:, None, None]
    torch.testing.assert_close(contributions.normalized().self_attention, expected)


@pytest.mark.parametrize("hook_name", ["hook_z", "hook_result"])
def test_ablated_heads_send_nothing(model, hook_name):
    images = random_images(model)

    def keep_head_2(activation, hook):
        activation[:, :, [0, 1, 3]] = 0.0
        return activation

    def ablate_all(activation, hook):
        return torch.zeros_like(activation)

    with model.hooks(fwd_hooks=[(f"blocks.1.attn.{hook_name}", keep_head_2)]):
        _, cache = model.run_with_cache(images)
        some = model.decompose(images, tokens=True)
    torch.testing.assert_close(some.self_attention[:, 1], some.tokens(1, 2)[:, 0])
    torch.testing.assert_close(decompose(model, cache).self_attention, some.self_attention)
    assert some.self_attention[:, 1].abs().max() > 0
    with model.hooks(fwd_hooks=[(f"blocks.1.attn.{hook_name}", ablate_all)]):
        none = model.decompose(images)
    assert none.self_attention[:, 1].abs().max() == 0
    assert none.self_attention[:, 2].abs().max() > 0


@pytest.mark.parametrize("hook_name", ["hook_z", "hook_result"])
def test_replaced_heads_have_none(model, hook_name):
    images = random_images(model)
    with model.hooks(fwd_hooks=[(f"blocks.1.attn.{hook_name}", lambda x, hook: x + 1)]):
        _, cache = model.run_with_cache(images)
        edited = model.decompose(images)
    for contributions in (edited, decompose(model, cache)):
        assert not contributions.has_self_attention
        with pytest.raises(TokensNotAvailableError, match="hook_pattern"):
            contributions.self_attention  # noqa: B018


def test_a_cache_without_values_has_none(model):
    _, cache = model.run_with_cache(random_images(model), names_filter=lambda name: not name.endswith("hook_v"))
    with pytest.raises(TokensNotAvailableError, match="hook_v"):
        decompose(model, cache).self_attention  # noqa: B018


@pytest.mark.parametrize("unit", ["embedding", "cosine"])
def test_selected_rows_are_those_images_in_that_order(model, unit):
    images = random_images(model, 5)
    rows = torch.tensor([3, 0, 3])
    whole = model.decompose(images, tokens=True, neurons=True)
    alone = model.decompose(images[rows], tokens=True, neurons=True)
    if unit == "cosine":
        whole, alone = whole.normalized(), alone.normalized()
    picked = whole.select(rows)
    assert (len(picked), picked.unit) == (3, unit)
    for name in ("embedding", "omega", "heads", "mlps", "embed", "attn_bias", "ln_bias", "edits", "self_attention"):
        torch.testing.assert_close(getattr(picked, name), getattr(alone, name))
    torch.testing.assert_close(picked.tokens(1, 2), alone.tokens(1, 2))
    torch.testing.assert_close(picked.neurons(1), alone.neurons(1))
    torch.testing.assert_close(picked.total(), alone.embedding)


def test_selected_rows_keep_what_hooks_did(model):
    images = random_images(model, 4)
    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_result", lambda x, hook: x + 1)]):
        picked = model.decompose(images).select(torch.tensor([2, 1]))
        output = model(images[[2, 1]]).detach()
    torch.testing.assert_close(picked.total(), output)


def test_without_hooks_nothing_is_guessed_from_numbers(model, monkeypatch):
    """Of our own run the hooks are known; of a cached one the numbers alone are, which here never agree."""
    images = random_images(model)
    _, cache = model.run_with_cache(images)
    expected = model.decompose(images, tokens=True)
    monkeypatch.setattr(changed_heads, "same_up_to", lambda dtype: -1.0)
    monkeypatch.setattr(contributions_module, "same_up_to", lambda dtype: -1.0)
    found = model.decompose(images, tokens=True, batch_size=2)
    torch.testing.assert_close(found.self_attention, expected.self_attention)
    torch.testing.assert_close(found.tokens(1, 2), expected.tokens(1, 2))
    cached = decompose(model, cache)
    assert not cached.has_self_attention
    with pytest.raises(TokensNotAvailableError, match="L1H0"):
        cached.tokens(1, 2)


def test_hooks_that_change_nothing_leave_tokens(model):
    """Whether a hook changed a head is known from what went into it and what came out."""
    images = random_images(model, 4)
    expected = model.decompose(images, tokens=True)
    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", lambda z, hook: z.clone())]):
        found = model.decompose(images[:2], tokens=True)
    joined = type(found).joined([found, model.decompose(images[2:], tokens=True)], 4)
    assert joined._parts.hooked == {1}
    torch.testing.assert_close(joined.tokens(1, 2), expected.tokens(1, 2))
    torch.testing.assert_close(joined.self_attention, expected.self_attention)
