"""A full cache leaves each head's output out unless it is asked for, or somebody is at it."""

from __future__ import annotations

import pickle

import pytest
import torch

from clip_lens_plugin import decompose
from clip_lens_plugin.model.hooks.hook_names import HookNotFoundError
from tests.conftest import random_images

RESULTS = [f"blocks.{l}.attn.hook_result" for l in range(3)]


def results_in(cache) -> list[str]:
    return sorted(name for name in cache if name.endswith("hook_result"))


def test_a_full_cache_has_every_other_activation(tower):
    _, full = tower.run_with_cache(random_images(tower), return_cache_object=False)
    assert set(full) == set(tower.hook_dict) - set(RESULTS)
    tower.reset_hooks()
    added = tower.add_caching_hooks()
    tower(random_images(tower))
    assert set(added) == set(full)
    _, sliced = tower.run_with_cache(random_images(tower), return_cache_object=False, pos_slice=0)
    assert set(sliced) == set(full)


def test_the_switch_puts_it_in_and_takes_it_out(model):
    images = random_images(model)
    assert model.cfg.use_attn_result is False
    model.set_use_attn_result(True)
    _, cache = model.run_with_cache(images)
    assert results_in(cache.keys()) == RESULTS
    z, weight = cache["z", 1], model.blocks[1].attn.W_O
    torch.testing.assert_close(cache["result", 1], torch.einsum("bnhk,hkd->bnhd", z, weight))
    model.set_use_attn_result(False)
    assert results_in(model.run_with_cache(images)[1].keys()) == []


@pytest.mark.parametrize(
    ("names_filter", "expected"),
    [
        (RESULTS[1], RESULTS[1:2]),
        ([RESULTS[0], RESULTS[2]], [RESULTS[0], RESULTS[2]]),
        (lambda name: name.endswith("hook_result"), RESULTS),
        (lambda name: True, RESULTS),
        ("hook_embed", []),
    ],
)
def test_a_filter_that_names_it_is_followed(model, names_filter, expected):
    _, cache = model.run_with_cache(random_images(model), names_filter=names_filter)
    assert results_in(cache.keys()) == expected


def test_gradients_of_it_are_left_out_too(model):
    hooks = model.get_caching_hooks(incl_bwd=True)[1:]
    assert not any(name.endswith("hook_result") for name, _ in [*hooks[0], *hooks[1]])


def test_it_is_live_without_the_switch_and_an_edit_is_cached(model):
    images, heard = random_images(model), []
    model.run_with_hooks(images, fwd_hooks=[(RESULTS[1], lambda x, hook: heard.append(x.shape))])
    assert heard == [(3, 17, 4, 48)]

    def ablate(x, hook):
        x[:, :, 2] = 0
        return x

    with model.hooks(fwd_hooks=[(RESULTS[1], ablate)]):
        output, cache = model.run_with_cache(images)
    assert results_in(cache.keys()) == RESULTS[1:2]
    contributions = decompose(model, cache, strict=True)
    assert contributions.heads[:, 1, 2].abs().max() == 0
    torch.testing.assert_close(contributions.total(), output.detach())


def test_decompositions_and_transformer_lens_do_without_it(model):
    _, cache = model.run_with_cache(random_images(model))
    _, with_results = model.run_with_cache(random_images(model), names_filter=lambda name: True)
    torch.testing.assert_close(decompose(model, cache).heads, decompose(model, with_results).heads)
    for call in ("stack_head_results", "get_full_resid_decomposition"):
        torch.testing.assert_close(getattr(cache, call)(), getattr(with_results, call)())


def test_a_name_that_is_not_there_is_an_error_that_says_which_are(model):
    images = random_images(model, 2)
    _, cache = model.run_with_cache(images)
    for ask in (
        lambda: cache["z", 99],
        lambda: cache["blocks.99.attn.hook_z"],
        lambda: model.run_with_cache(images, names_filter="blocks.99.attn.hook_z"),
        lambda: model.run_with_cache(images, names_filter=["hook_embed", "blocks.99.attn.hook_z"]),
        lambda: model.run_with_hooks(images, fwd_hooks=[("blocks.99.attn.hook_z", lambda value, hook: value)]),
        lambda: model.add_hook("blocks.99.attn.hook_z", lambda value, hook: value),
        lambda: pickle.loads(pickle.dumps(model.hook_dict))["blocks.99.attn.hook_z"],
    ):
        with pytest.raises(HookNotFoundError, match=r"'blocks\.99\.attn\.hook_z'\. There are blocks 0 to 2\."):
            ask()
    with pytest.raises(KeyError, match=r"The nearest of \d+ are \['hook_embed"):
        model.add_hook("hook_embd", lambda value, hook: value)
    _, few = model.run_with_cache(images, names_filter=["hook_embed"])
    with pytest.raises(KeyError, match="It was not asked for"):
        few["z", 1]
    assert not model.hook_dict["hook_embed"].has_hooks()
