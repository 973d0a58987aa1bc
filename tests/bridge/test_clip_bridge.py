"""TransformerLens's own calls give on a bridge what they give on a ``HookedCLIP`` of the same weights, or refuse."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformer_lens import ActivationCache, patching

from clip_lens_plugin import as_hooked_clip
from clip_lens_plugin.layers.pooling.attention_pool import is_of_query
from tests.adapters.test_transformers_tower import distance
from tests.bridge.conftest import Pair
from tests.bridge.same import assert_same, cached, in_place, returned

pytestmark = pytest.mark.slow

N_LAYERS = 3
ROUNDED = 1e-6
"""Siglip2Model rounds its positions to float32 in any precision."""
POSITIONS = (None, 0, (1, 4), [5, 2])
LAYERS = (None, 0, 1, 2, 3, -1)
POOLED = "pools by attention, so a text has no one direction"


# ---------------------------------------------------------------------- the cache's own methods


def stacks() -> dict[str, Callable[[ActivationCache], Any]]:
    """Every stack that a cache makes, of each layer, with its norm and without, at each kind of positions."""
    calls: dict[str, Callable[[ActivationCache], Any]] = {}
    for layer, ln, at in itertools.product(LAYERS, (False, True), POSITIONS):
        kwargs = {"layer": layer, "apply_ln": ln, "pos_slice": at, "return_labels": True}
        for name, more in [
            ("decompose_resid", {}),
            ("decompose_resid", {"mode": "attn", "incl_embeds": False} if layer != 0 else {}),
            ("accumulated_resid", {"incl_mid": True}),
            ("stack_head_results", {"incl_remainder": layer != 0}),
            ("get_full_resid_decomposition", {"expand_neurons": False}),
            ("get_full_resid_decomposition", {"expand_neurons": True}),
            ("stack_neuron_results", {"neuron_slice": (0, 5), "incl_remainder": layer not in (0, None, -1)}),
        ]:
            calls[f"{name}({kwargs | more})"] = lambda cache, n=name, k=kwargs | more: getattr(cache, n)(**k)
    return calls


def others(width: int) -> dict[str, Callable[[ActivationCache], Any]]:
    """The cache's other methods."""
    onto = torch.randn(width, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return {
        "embed": lambda c: c["embed"],
        "resid_post -1": lambda c: c["resid_post", -1],
        "scale": lambda c: c["scale"] if "scale" in c else c["ln_final.hook_scale"],
        "stack_activation": lambda c: c.stack_activation("pattern"),
        "stack_activation z": lambda c: c.stack_activation("z", 2, "attn"),
        "get_neuron_results": lambda c: c.get_neuron_results(1, neuron_slice=[1, 2], pos_slice=(1, 3)),
        "compute_head_results": lambda c: (c.compute_head_results(), c["result", 1])[1],
        "mlp_input": lambda c: c.get_full_resid_decomposition(1, mlp_input=True, apply_ln=True),
        "projected": lambda c: c.get_full_resid_decomposition(apply_ln=True, project_output_onto=onto),
        "neurons projected": lambda c: c.stack_neuron_results(-1, apply_ln=True, project_output_onto=onto[:, 0]),
        "recompute_ln": lambda c: c.apply_ln_to_stack(c.decompose_resid(), recompute_ln=True),
        "one image": lambda c: c.apply_slice_to_batch_dim(1).decompose_resid(pos_slice=0, apply_ln=True),
        "two images": lambda c: c.apply_slice_to_batch_dim((0, 2)).decompose_resid(pos_slice=0, apply_ln=True),
        "batch_slice": lambda c: c.apply_ln_to_stack(c.decompose_resid(), batch_slice=[2, 0]),
        "ssm_layers": lambda c: c.ssm_layers(),
        "to": lambda c: c.to("cpu").decompose_resid(),
    }


TRIED_ELSEWHERE = {
    *("keys", "values", "items", "logit_lens", "logit_attrs", "remove_batch_dim"),
    *("toggle_autodiff", "compute_ssm_state", "compute_ssm_effective_attention"),
}


def test_every_method_of_the_cache_is_tried():
    tried = " ".join([*stacks(), *others(2), *map(inspect.getsource, others(2).values())])
    methods = {name for name, _ in inspect.getmembers(ActivationCache, inspect.isfunction) if name[0] != "_"}
    assert {name for name in methods if name not in tried} == TRIED_ELSEWHERE


def test_stacks_are_the_same(pair: Pair):
    found, expected = pair.both(cached)
    for what, call in stacks().items():
        assert_same(call(found), call(expected), what)


def test_other_methods_of_the_cache_are_the_same(pair: Pair):
    for what, call in others(pair.hooked.cfg.d_model).items():
        found, expected = pair.both(cached)
        assert_same(call(found), call(expected), what)


def test_the_stack_sums_to_the_stream_that_is_read_out(pair: Pair):
    cache = cached(pair.bridge, pair.images)
    last = cache["resid_post", N_LAYERS - 1]
    assert_same(cache.decompose_resid().sum(0), last, "the stream")
    ln, at = pair.bridge.ln_final, {"apply_ln": True, "pos_slice": 0}
    normalized = cache.get_full_resid_decomposition(**at).sum(0) * ln.w + ln.b
    expected = torch.nn.functional.layer_norm(last, last.shape[-1:], ln.w, ln.b, pair.hooked.ln_final.norm.module.eps)
    assert_same(normalized, expected[:, 0], "every image by its own scale")


def test_one_image_without_its_batch_dimension(pair: Pair):
    for at in (None, 0):
        assert_same(
            *pair.both(
                lambda m, x, at=at: [
                    call(apply_ln=True, pos_slice=at)
                    for cache in [cached(m, x[:1], remove_batch_dim=True)]
                    for call in (cache.decompose_resid, cache.accumulated_resid, cache.stack_head_results)
                ]
            ),
            f"positions {at}",
        )
    for model in (pair.bridge, pair.hooked):
        with pytest.raises(AssertionError, match="batch size 3"):
            cached(model, pair.images, remove_batch_dim=True)


# ---------------------------------------------------------------------- caching


@pytest.mark.parametrize("at", [None, 0, 3, (1, 4), [5, 2]])
def test_caches_hold_the_same(pair: Pair, at: Any):
    found, expected = pair.both(lambda m, x: dict(cached(m, x, pos_slice=at)))
    for name in pair.shared:
        assert_same(found[name], expected[name], name)
        assert at is None or is_of_query(name) or found[name].untyped_storage().nbytes() == found[name].nbytes, name
    sizes = {name: len(x) for name, x in found.items()}
    assert set(sizes.values()) == {len(pair.images)}, "nothing has lost its images"
    width = pair.hooked.cfg.d_embed
    assert found.get("visual_projection.hook_out", torch.empty(3, width)).shape == (3, width)


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"pos_slice": 1}, {"names_filter": lambda name: name.endswith("hook_z")}, {"names_filter": "hook_embed"}],
)
def test_caching_hooks_save_the_same(pair: Pair, kwargs: dict[str, Any]):
    def run(model: Any, images: Tensor) -> dict[str, Tensor]:
        cache, forward, _ = model.get_caching_hooks(**kwargs)
        with model.hooks(fwd_hooks=forward):
            model(images)
        return cache

    found, expected = pair.both(run)
    wanted = [name for name in expected if name in pair.shared]
    assert wanted
    for name in wanted:
        assert_same(found[name], expected[name], name)


def test_older_ways_of_caching(pair: Pair):
    def run(model: Any, images: Tensor) -> list[Tensor]:
        everything, some = {}, {}
        model.cache_all(everything)
        model.cache_some(some, lambda name: name.endswith("hook_z"))
        added = model.add_caching_hooks(names_filter=["hook_embed"])
        model(images)
        return [everything["ln_final.hook_scale"], some["blocks.1.attn.hook_z"], added["hook_embed"]]

    with pytest.warns():
        assert_same(*pair.both(run), "older ways")


def test_a_run_stops_at_a_layer(pair: Pair):
    with torch.no_grad():
        stopped, cache = pair.bridge.run_with_cache(pair.images, stop_at_layer=2)
        expected = cached(pair.hooked, pair.images)
        assert_same(stopped, expected["resid_pre", 2], "run_with_cache")
        assert "blocks.2.hook_resid_pre" not in cache
        assert_same(pair.bridge(pair.images, stop_at_layer=-1), expected["resid_pre", 2], "forward")
        for stop in range(N_LAYERS + 1):
            edit = [("blocks.1.hook_resid_post", returned)]
            assert_same(*pair.both(lambda m, x, s=stop: m(x, stop_at_layer=s)), f"before {stop}")
            calls = pair.both(lambda m, x, s=stop, e=edit: m.run_with_hooks(x, fwd_hooks=e, stop_at_layer=s))
            assert_same(*calls, f"hooked, before {stop}")
            found, kept = zip(*pair.both(lambda m, x, s=stop: m.run_with_cache(x, stop_at_layer=s)), strict=True)
            assert_same(*found, f"cached, before {stop}")
            assert set(kept[1]) <= set(kept[0])
            assert not any(name.startswith(("ln_final", "pool", f"blocks.{stop}.")) for cache in kept for name in cache)
        with pytest.raises(NotImplementedError, match="start_at_layer is not supported for vision"):
            pair.bridge(expected["resid_pre", 1], start_at_layer=1)


# ---------------------------------------------------------------------- hooks


@pytest.mark.parametrize("edit", [in_place, returned])
def test_an_edit_anywhere_has_the_same_effect(pair: Pair, edit: Callable):
    plain = pair.hooked(pair.images).detach()
    for name in pair.shared:
        found, expected = pair.both(lambda m, x, name=name: m.run_with_hooks(x, fwd_hooks=[(name, edit)]))
        assert_same(found, expected, name)
        assert distance(found, plain) > 1e-7, name


def test_results_of_heads_are_there_when_asked_for(pair: Pair):
    name = "blocks.1.attn.hook_result"
    with pytest.raises(ValueError, match=r"use_attn_result is False. Call set_use_attn_result\(True\)"):
        pair.bridge.run_with_hooks(pair.images, fwd_hooks=[(name, returned)])
    pair.bridge.set_use_attn_result(True)
    try:
        for edit in (in_place, returned):
            assert_same(*pair.both(lambda m, x, e=edit: m.run_with_hooks(x, fwd_hooks=[(name, e)])), str(edit))
        assert_same(*pair.both(lambda m, x: cached(m, x, names_filter=name)["result", 1]), "cached")
    finally:
        pair.bridge.set_use_attn_result(False)


def test_gradients_at_every_hook_point_are_the_same(pair: Pair):
    found: list[dict[str, Tensor]] = []
    for model in (pair.bridge, pair.hooked):
        kept: dict[str, Tensor] = {}
        hooks = [(name, lambda x, hook, n=name, k=kept: k.__setitem__(n, x.clone())) for name in pair.shared]
        with model.hooks(bwd_hooks=hooks):
            model(pair.images).square().sum().backward()
        found.append(kept)
    assert set(found[0]) == set(pair.shared)
    for name in pair.shared:
        assert_same(found[0][name], found[1][name], name)


def test_hooks_stay_until_they_are_reset(pair: Pair):
    def run(model: Any, images: Tensor) -> list[Tensor]:
        model.add_hook("blocks.0.hook_resid_mid", returned)
        model.add_hook(lambda name: name.endswith("hook_mlp_out"), returned)
        model.add_perma_hook("blocks.2.attn.hook_v", returned)
        edited = model(images)
        model.reset_hooks()
        kept = model(images)
        model.reset_hooks(including_permanent=True)
        return [edited, kept, model(images)]

    found, expected = pair.both(run)
    assert_same(found, expected, "hooks")
    assert min(distance(found[0], found[1]), distance(found[1], found[2])) > 1e-4


# ---------------------------------------------------------------------- switches

SWITCHED = {
    "set_use_split_qkv_input": ("hook_q_input", "attn.hook_k_input", "hook_v_input"),
    "set_use_attn_in": ("hook_attn_in", "attn.hook_attn_in"),
    "set_use_hook_mlp_in": ("hook_mlp_in",),
}


@pytest.mark.parametrize("switch", SWITCHED)
def test_switched_inputs_are_the_same(pair: Pair, switch: str):
    plain = pair.bridge(pair.images)
    for point in SWITCHED[switch]:
        name = f"blocks.1.{point}"
        for call in (
            lambda m, x, name=name: m.run_with_hooks(x, fwd_hooks=[(name, returned)]),
            lambda m, x, name=name: m.add_hook(name, returned),
            lambda m, x, name=name: cached(m, x, names_filter=name),
            lambda m, x, name=name: cached(m, x, names_filter=lambda each: each == name),
        ):
            for model in (pair.bridge, pair.hooked):
                with pytest.raises(ValueError, match=rf"{switch}\(True\)"):
                    call(model, pair.images)
        for model in (pair.bridge, pair.hooked):
            getattr(model, switch)(True)
        try:
            assert_same(*pair.both(lambda m, x, n=name: cached(m, x, names_filter=[n])[n]), name)
            for edit in (in_place, returned):
                hooks = [(name, edit), ("blocks.1.ln1.hook_scale", returned)]
                found, expected = pair.both(lambda m, x, h=hooks: m.run_with_hooks(x, fwd_hooks=h))
                assert_same(found, expected, name)
                assert distance(found, pair.hooked.run_with_hooks(pair.images, fwd_hooks=hooks[1:])) > 1e-5
            assert as_hooked_clip(pair.bridge).labels is not None, "the bridge is still known"
        finally:
            for model in (pair.bridge, pair.hooked):
                getattr(model, switch)(False)
    assert torch.equal(pair.bridge(pair.images), plain)


def test_a_filter_that_chooses_nothing_is_an_error(pair: Pair):
    for model in (pair.bridge, pair.hooked):
        with pytest.raises(KeyError, match="names_filter chooses none of"):
            model.run_with_cache(pair.images, names_filter=lambda name: name.endswith("hook_zz"))


def test_a_hook_is_put_before_others(pair: Pair):
    def run(model: Any, images: Tensor) -> Tensor:
        model.add_hook("blocks.1.hook_resid_post", returned)
        model.add_hook("blocks.1.hook_resid_post", lambda x, hook: x.cos(), prepend=True)
        model.add_hook(lambda name: name == "blocks.0.hook_resid_post", returned, prepend=True)
        return model(images)

    assert_same(*pair.both(run), "prepended")


FIELDS = (
    *("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab", "d_vocab_out", "eps", "attn_scale"),
    *("n_params", "positional_embedding_type", "attention_dir", "normalization_type", "n_key_value_heads"),
    *("gated_mlp", "attn_only", "final_rms", "parallel_attn_mlp", "original_architecture", "default_prepend_bos"),
    *("use_attn_result", "use_attn_in", "use_split_qkv_input", "use_hook_mlp_in", "is_visual_model"),
)


def test_what_tools_read_of_the_config_is_the_same(pair: Pair):
    for name in FIELDS:
        assert getattr(pair.bridge.cfg, name) == getattr(pair.hooked.cfg, name), name
    assert set(FIELDS) <= set(pair.hooked.cfg.to_dict())
    assert set(FIELDS) <= set(pair.bridge.cfg.to_dict())


# ---------------------------------------------------------------------- patching


def test_patching_is_the_same(pair: Pair):
    index = pd.DataFrame(list(itertools.product(range(N_LAYERS), (0, 3))), columns=["layer", "pos"])

    def metric(embedding: Tensor) -> Tensor:
        return embedding.square().sum()

    def run(model: Any, images: Tensor) -> list[Tensor]:
        clean = cached(model, images[1:2])
        heads = [
            getattr(patching, f"get_act_patch_attn_head_{part}")(model, images[:1], clean, metric)
            for part in ("out_all_pos", "q_all_pos", "k_all_pos", "v_all_pos", "pattern_all_pos", "all_pos_every")
        ]
        return heads + [
            patching.generic_activation_patch(
                model,
                images[:1],
                clean,
                metric,
                patch_setter=patching.layer_pos_patch_setter,
                activation_name=name,
                index_df=index,
            )
            for name in ("resid_pre", "resid_mid", "attn_out", "mlp_out")
        ]

    found, expected = pair.both(run)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=1e-6, atol=1e-6)  # Kept in float32.
