"""Hooks on points whose switch is off are refused; switches survive copies; names of points that have two."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from clip_lens_plugin.model.hooks.hook_names import HookNotFoundError, SwitchedOffError
from tests.conftest import random_images

OFF = {
    "blocks.0.hook_q_input": "set_use_split_qkv_input",
    "blocks.2.attn.hook_k_input": "set_use_split_qkv_input",
    "blocks.0.hook_attn_in": "set_use_attn_in",
    "blocks.1.hook_mlp_in": "set_use_hook_mlp_in",
}


def nothing(x, hook):
    return None


@pytest.mark.parametrize("name", OFF)
def test_a_hook_on_a_point_that_is_off_names_the_switch(model, name: str) -> None:
    images, message = random_images(model), rf"'{name}' is off.*Call model.{OFF[name]}\(True\) first"
    for call in (
        lambda: model.run_with_hooks(images, fwd_hooks=[(name, nothing)]),
        lambda: model.run_with_hooks(images, bwd_hooks=[(name, nothing)], reset_hooks_end=False),
        lambda: model.add_hook(name, nothing),
        lambda: model.add_perma_hook(name, nothing),
        lambda: model.add_hook(lambda each: each == name, nothing),
        lambda: model.run_with_cache(images, names_filter=name),
        lambda: model.run_with_cache(images, names_filter=lambda each: each == name),
        lambda: model.run_with_cache(images)[1][name],
    ):
        for kind in (ValueError, KeyError, AssertionError):
            with pytest.raises(kind, match=message):
                call()
    getattr(model, OFF[name])(True)
    heard = []
    model.run_with_hooks(images, fwd_hooks=[(name, lambda x, hook: heard.append(x.shape))])
    assert len(heard) == 1
    assert name in model.run_with_cache(images, names_filter=name)[1]


def test_a_point_of_a_block_that_there_is_not_is_no_matter_of_switches(model) -> None:
    with pytest.raises(HookNotFoundError, match="There are blocks 0 to 2") as caught:
        model.add_hook("blocks.7.hook_q_input", nothing)
    assert not isinstance(caught.value, SwitchedOffError)


def test_heads_results_are_refused_once_they_are_switched_off(model) -> None:
    images, name, heard = random_images(model), "blocks.1.attn.hook_result", []
    hook = [(name, lambda x, hook: heard.append(x.shape))]
    model.run_with_hooks(images, fwd_hooks=hook)
    model.set_use_attn_result(False)
    for call in (
        lambda: model.run_with_hooks(images, fwd_hooks=hook),
        lambda: model.add_hook(name, nothing),
        lambda: model.run_with_cache(images, names_filter=[name]),
    ):
        with pytest.raises(SwitchedOffError, match=r"set_use_attn_result\(True\)"):
            call()
    assert name not in model.run_with_cache(images, names_filter=lambda each: True)[1]
    model.add_hook(lambda each: each.startswith("blocks.1.attn"), nothing)
    assert not model.hook_dict[name].has_hooks()
    model.set_use_attn_result(True)
    model.run_with_hooks(images, fwd_hooks=hook)
    assert len(heard) == 2


def test_a_filter_that_chooses_nothing_is_an_error(model) -> None:
    with pytest.raises(HookNotFoundError, match=r"names_filter chooses none of open_clip model's .* hook points"):
        model.run_with_cache(random_images(model), names_filter=lambda name: name.endswith("hook_zz"))


def test_a_point_with_two_names_is_hooked_once_and_cached_as_asked(model) -> None:
    images, heard = random_images(model), []
    model.set_use_split_qkv_input(True)
    with model.hooks(
        fwd_hooks=[(lambda name: name.endswith("1.hook_q_input") or "1.attn.hook_q_input" in name, nothing)]
    ):
        assert len(model.hook_dict["blocks.1.hook_q_input"].fwd_hooks) == 1
    model.add_hook(lambda name: "q_input" in name, lambda x, hook: heard.append(hook.name))
    model(images)
    assert heard == [f"blocks.{l}.hook_q_input" for l in range(3)]
    model.reset_hooks()
    own, other = "blocks.1.hook_q_input", "blocks.1.attn.hook_q_input"
    for names_filter, expected in [
        (other, {other}),
        ([own, other], {own, other}),
        (lambda name: name == other, {other}),
        (lambda name: "1" in name and "q_input" in name, {own, other}),
    ]:
        assert set(model.run_with_cache(images, names_filter=names_filter)[1]) == expected
    full = model.run_with_cache(images)[1]
    assert own in full
    assert other not in full
    assert full["q_input", 1] is full[own]


@pytest.mark.parametrize(("pos_slice", "kept"), [(0, [0]), ((1, 4), [1, 2, 3]), ([5, 2], [5, 2])])
def test_positions_of_inputs_are_sliced_and_not_their_heads(model, pos_slice, kept) -> None:
    images = random_images(model)
    for switch in ("set_use_split_qkv_input", "set_use_hook_mlp_in"):
        getattr(model, switch)(True)
    full, some = (model.run_with_cache(images, pos_slice=at)[1] for at in (None, pos_slice))
    for name in ("blocks.1.hook_k_input", "blocks.0.hook_mlp_in"):
        assert torch.equal(some[name], full[name][:, kept]), name


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_switches_are_copied(model, copied) -> None:
    model.set_use_split_qkv_input(True)
    model.tokenizer = None
    twin = copied(model)
    assert twin.cfg.use_split_qkv_input
    heard = []
    twin.run_with_hooks(
        random_images(model), fwd_hooks=[("blocks.1.attn.hook_v_input", lambda x, hook: heard.append(1))]
    )
    assert heard == [1]
    twin.set_use_split_qkv_input(False)
    assert "blocks.1.hook_v_input" in model.hook_dict
    assert "blocks.1.hook_v_input" not in twin.hook_dict
