"""TransformerLens's own calls give on a bridge what they give on a ``HookedCLIP`` of the same weights, or refuse."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformer_lens import ActivationCache, SVDInterpreter, patching
from transformer_lens.tools.analysis import direct_logit_attribution, logit_lens

from clip_lens_plugin import HookedCLIP, as_hooked_clip
from clip_lens_plugin.bridge.clip_bridge import CLIPBridge
from clip_lens_plugin.layers.attention_pool import is_of_query
from tests.adapters.test_transformers_tower import distance
from tests.bridge.conftest import KINDS, boot
from tests.conftest import random_images

LABELS = ["a dog", "a cat", "the sea", "two boats"]
N_LAYERS = 3
ROUNDED = 1e-6
"""Siglip2Model rounds its positions to float32 in any precision."""
POSITIONS = (None, 0, (1, 4), [5, 2])
LAYERS = (None, 0, 1, 2, 3, -1)
POOLED = "pools by attention, so a text has no one direction"


@dataclass(frozen=True)
class Pair:
    """A bridge and a ``HookedCLIP`` of the same weights in float64, with the same labels and images."""

    bridge: CLIPBridge
    hooked: HookedCLIP
    images: Tensor

    @property
    def pools_by_attention(self) -> bool:
        return self.hooked.cfg.pooling == "attention"

    @property
    def shared(self) -> list[str]:
        """The hook points of both that run unasked."""
        return [name for name in self.hooked.hook_dict if name in self.bridge.hook_dict and "hook_result" not in name]

    def both(self, call: Callable[[Any, Tensor], Any]) -> tuple[Any, Any]:
        """What a call gives on each, hooks that it leaves behind removed."""
        found = []
        for model in (self.bridge, self.hooked):
            with torch.no_grad():
                found.append(call(model, self.images))
            model.reset_hooks()
        return found[0], found[1]


@pytest.fixture(scope="module", params=list(KINDS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    saved = KINDS[request.param]()
    bridge = boot(tmp_path_factory.mktemp("pair") / "model", saved)
    bridge.to(torch.float64, print_details=False)
    hooked = HookedCLIP.from_transformers(saved.double())
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(len(LABELS), hooked.cfg.d_embed, generator=generator, dtype=torch.float64)
    for model in (bridge, hooked):
        model.set_labels(LABELS, torch.nn.functional.normalize(embeddings, dim=-1))
    return Pair(bridge, hooked, random_images(hooked))


def assert_same(found: Any, expected: Any, what: str) -> None:
    """Equal tensors, or sequences of such; anything else by ``==``."""
    if isinstance(expected, Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10, msg=lambda text: f"{what}: {text}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), what
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b, what)
    else:
        assert found == expected, what


def cached(model: Any, images: Tensor, **kwargs: Any) -> ActivationCache:
    return model.run_with_cache(images, **kwargs)[1]


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
        with pytest.raises(NotImplementedError, match="start_at_layer is not supported for vision"):
            pair.bridge(expected["resid_pre", 1], start_at_layer=1)


# ---------------------------------------------------------------------- hooks


def in_place(x: Tensor, hook: Any) -> None:
    x[:, :2] *= _factors(x)[:, :2]


def returned(x: Tensor, hook: Any) -> Tensor:
    return x * _factors(x)


def _factors(x: Tensor) -> Tensor:
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype) + 0.5


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


# ---------------------------------------------------------------------- weights

WEIGHTS = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O", "W_in", "W_out", "b_in", "b_out", "W_gate")


def test_weights_are_the_same(pair: Pair):
    for name in WEIGHTS:
        assert_same(*pair.both(lambda m, x, name=name: getattr(m, name)), name)
    for part, name in [("ln1", "w"), ("ln2", "b"), ("attn", "W_O"), ("mlp", "b_in"), ("mlp", "W_out")]:
        assert_same(*pair.both(lambda m, x, p=part, n=name: getattr(getattr(m.blocks[1], p), n)), f"{part}.{name}")
    assert_same(*pair.both(lambda m, x: [m.ln_final.w, m.ln_final.b]), "ln_final")
    assert_same(*pair.both(lambda m, x: [m.OV.AB, m.QK.AB, m.OV.svd()[1], m.all_head_labels]), "circuits")
    for mode in "QKV":
        found, expected = pair.both(lambda m, x, mode=mode: m.all_composition_scores(mode))
        assert_same([found.scores, found.head_labels], [expected.scores, expected.head_labels], mode)
    for layer, mlps in itertools.product(range(N_LAYERS + 1), (True, False)):
        assert_same(*pair.both(lambda m, x, a=(layer, False, mlps): m.accumulated_bias(*a)), f"biases {layer}")
    for model in (pair.bridge, pair.hooked):
        with pytest.raises(IndexError, match="layer must be 0 to 2 here, got 3"):
            model.accumulated_bias(3, mlp_input=True)


def test_no_weight_is_invented(pair: Pair):
    found, expected = pair.both(lambda m, x: m.tl_parameters())
    assert set(found) == set(expected)
    assert not {"embed.W_E", "pos_embed.W_pos"} & set(found)
    for name in expected:
        assert_same(found[name], expected[name], name)
        assert expected[name].any() or name == "unembed.b_U", name


def test_singular_vectors_are_those_of_the_weights(pair: Pair):
    def run(model: Any, images: Tensor) -> list[Tensor]:
        svd = SVDInterpreter(model)
        return [svd.get_singular_vectors(kind, 1, 3, head_index=2) for kind in ("OV", "w_in", "w_out")]

    if pair.pools_by_attention:
        for model in (pair.bridge, pair.hooked):
            with pytest.raises(ValueError, match=POOLED):
                run(model, pair.images)
        return
    found, expected = pair.both(run)
    assert_same([x.abs() for x in found], [x.abs() for x in expected], "singular vectors")
    block = pair.hooked.blocks[1]
    product = block.attn.W_V[2] @ block.attn.W_O[2]
    directions = torch.linalg.svd(product.detach())[2][:3]
    assert_same(found[0].squeeze(1).abs(), (pair.hooked.W_U.T @ directions.T).abs().detach(), "OV by hand")


def test_folding_and_compatibility_mode_are_refused(pair: Pair):
    before = pair.bridge(pair.images)
    for refused in (pair.bridge.process_weights, pair.bridge.enable_compatibility_mode):
        with pytest.raises(NotImplementedError, match=r"stay as they are.*takes as_hooked_clip\(bridge\)"):
            refused()
    assert torch.equal(pair.bridge(pair.images), before)


# ---------------------------------------------------------------------- labels


def readings(positions: Any) -> dict[str, Callable[[Any, Tensor], Any]]:
    """What TransformerLens reads off the stream for labels."""

    def lens(model: Any, images: Tensor, **kwargs: Any) -> list[Any]:
        read = logit_lens(model, cache=cached(model, images), positions=positions, **kwargs)
        return [read.values, read.labels, read.readout.entropy]

    def attrs(model: Any, images: Tensor, *tokens: Any, **kwargs: Any) -> Tensor:
        cache = cached(model, images)
        return cache.logit_attrs(cache.decompose_resid(pos_slice=positions), *tokens, pos_slice=positions, **kwargs)

    own = torch.tensor([3, 0, 1])
    return {
        "W_U": lambda m, x: m.W_U,
        "b_U": lambda m, x: m.b_U,
        "unembed": lambda m, x: m.unembed(cached(m, x)["resid_post", -1]),
        "directions": lambda m, x: m.tokens_to_residual_directions(torch.tensor([0, 2])),
        "direction": lambda m, x: m.tokens_to_residual_directions("the sea"),
        "logit_attrs name": lambda m, x: attrs(m, x, "a cat"),
        "logit_attrs number": lambda m, x: attrs(m, x, 2),
        "logit_attrs difference": lambda m, x: attrs(m, x, "a cat", "a dog"),
        "logit_attrs own": lambda m, x: attrs(m, x, own),
        "logit_lens": lens,
        "logit_lens mid": lambda m, x: lens(m, x, incl_mid=True, targets=["a cat"], return_type="probs"),
        "logit_lens raw": lambda m, x: lens(m, x, apply_ln=False),
        "cache.logit_lens": lambda m, x: cached(m, x).logit_lens(positions=positions).values,
    }


@pytest.mark.parametrize("positions", [0, None, -1])
def test_labels_are_the_vocabulary(pair: Pair, positions: Any):
    for what, call in readings(positions).items():
        if pair.pools_by_attention:
            for model in (pair.bridge, pair.hooked):
                with pytest.raises(ValueError, match=POOLED):
                    call(model, pair.images)
        else:
            assert_same(*pair.both(call), what)
    assert_same(*pair.both(lambda m, x: [m.to_single_token("the sea"), m.to_tokens(LABELS[1:]).tolist()]), "names")


def test_the_last_reading_is_the_models_own_output(pair: Pair):
    if pair.pools_by_attention:
        pytest.skip("a text has no one direction in the stream")
    lens = logit_lens(pair.bridge, cache=cached(pair.bridge, pair.images), positions=0)
    dot_products = pair.bridge(pair.images) @ pair.hooked.labels.embeddings.T
    assert_same(lens.values[-1], dot_products.detach(), "the last reading")


def test_what_labels_cannot_answer_is_refused(pair: Pair):
    for model in (pair.bridge, pair.hooked):
        with pytest.raises(ValueError, match="'dog' is not among the labels"):
            model.to_single_token("dog")
    for method in ("to_string", "to_str_tokens", "to_single_str_token", "get_token_position"):
        with pytest.raises(NotImplementedError, match=r"no tokens to show.*labels.names"):
            getattr(pair.bridge, method)(torch.tensor([1]))
    with pytest.raises(AttributeError, match="no token embeddings W_E"):
        _ = pair.bridge.W_E
    with pytest.raises(AttributeError, match="W_pos is only defined for"):
        _ = pair.bridge.W_pos


def test_without_labels_the_first_step_is_named(tmp_path):
    bridge = boot(tmp_path / "model", KINDS["CLIPModel"]())
    hooked = as_hooked_clip(bridge)
    for model in (bridge, hooked):
        with pytest.raises(ValueError, match=r"No text labels are set. Call model.set_labels"):
            _ = model.W_U
        with pytest.raises(ValueError, match="No text labels are set"):
            SVDInterpreter(model).get_singular_vectors("w_in", 0)
    with pytest.raises(ValueError, match="without a tokenizer"):
        bridge.set_labels(LABELS)


def test_labels_can_be_the_bridges_own_texts(with_texts):
    with_texts.set_labels(["ab", "ba"])
    hooked = HookedCLIP.from_pretrained(f"transformers:{with_texts.cfg.model_name}")
    hooked.set_labels(["ab", "ba"])
    torch.testing.assert_close(with_texts.W_U, hooked.W_U)
    assert as_hooked_clip(with_texts).labels.names == ("ab", "ba")


# ---------------------------------------------------------------------- what makes no sense for images


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b, x: b("a text"), ValueError, "Visual models require tensor input"),
        (lambda b, x: b.run_with_cache("a text"), AssertionError, "Tokenizer must be set"),
        (lambda b, x: b(x, return_type="loss"), ValueError, "do not support return_type='loss'"),
        (lambda b, x: b(x, return_type="predictions"), AssertionError, "Tokenizer required"),
        (lambda b, x: b.generate("a text"), NotImplementedError, "generation is not supported"),
        (lambda b, x: b(x[..., :-8]), ValueError, r"takes images of shape \[batch, 3, 32, 32\], got \[3, 3, 32, 24\]"),
        (lambda b, x: b(x[0]), ValueError, r"takes images of shape \[batch, 3, 32, 32\], got \[3, 32, 32\]"),
        (lambda b, x: b.set_use_split_qkv_input(True), NotImplementedError, "use_split_qkv_input"),
        (lambda b, x: b.set_use_attn_in(True), NotImplementedError, "use_attn_in"),
        (lambda b, x: cached(b, x).compute_ssm_state(0), TypeError, "has no state-reconstructing SSM"),
        (lambda b, x: cached(b, x).compute_ssm_effective_attention(0), TypeError, "has no SSM mixer"),
        (lambda b, x: direct_logit_attribution(b, x, "a cat"), ValueError, "requires compatibility mode"),
        (lambda b, x: b.run_with_hooks(x, fwd_hooks=[("hook_pos_embed", returned)]), KeyError, "does not exist"),
    ],
)
def test_a_language_models_calls_are_refused(pair: Pair, call: Callable, error: type[Exception], message: str):
    with torch.no_grad(), pytest.raises(error, match=message):
        call(pair.bridge, pair.images)


def test_a_lens_of_the_whole_run_is_refused_on_both(pair: Pair):
    for model in (pair.bridge, pair.hooked):
        with pytest.raises(ValueError, match=POOLED if pair.pools_by_attention else "the model returned logits of"):
            logit_lens(model, pair.images, positions=0)


# ---------------------------------------------------------------------- copies and changes of the weights


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda bridge: pickle.loads(pickle.dumps(bridge))])
def test_a_copy_is_a_bridge_of_its_own(pair: Pair, copied: Callable[[CLIPBridge], CLIPBridge]):
    twin = copied(pair.bridge)
    expected = pair.hooked(pair.images)
    assert type(twin) is CLIPBridge
    assert twin.labels.names == tuple(LABELS)
    with torch.no_grad():
        for parameter in twin.original_model.parameters():
            parameter.mul_(0.5)
    assert distance(twin(pair.images), expected) > 1e-3
    assert_same(pair.bridge(pair.images), expected, "the first bridge is as it was")
    assert distance(as_hooked_clip(twin)(pair.images), twin(pair.images)) < ROUNDED, "its own weights are read"
    edit = [("blocks.1.ln2.hook_scale", returned)]
    edited = as_hooked_clip(twin).run_with_hooks(pair.images, fwd_hooks=edit)
    assert distance(twin.run_with_hooks(pair.images, fwd_hooks=edit), edited) < ROUNDED, "its hooks are its own"


@pytest.mark.parametrize("assign", [False, True])
def test_loaded_weights_are_followed(pair: Pair, assign: bool):
    twin = copy.deepcopy(pair.bridge)
    before, scale = twin(pair.images), twin.ln_final.w.detach().clone()
    twin.load_state_dict({name: 0.5 * value for name, value in twin.state_dict().items()}, assign=assign)
    assert distance(twin(pair.images), before) > 1e-3
    assert distance(as_hooked_clip(twin)(pair.images), twin(pair.images)) < ROUNDED
    for name in WEIGHTS:
        assert_same(getattr(twin, name), getattr(as_hooked_clip(twin), name), name)
    assert_same(twin.ln_final.w.detach(), 0.5 * scale, "γ")
    assert twin.labels.names == tuple(LABELS)


def test_precision_and_mode(pair: Pair):
    twin = copy.deepcopy(pair.bridge)
    expected = pair.hooked(pair.images)
    twin.train()
    assert_same(twin(pair.images), expected, "no tower of these drops anything unless its config says so")
    twin.float()
    assert (twin.cfg.dtype, twin.labels.embeddings.dtype) == (torch.float32, torch.float32)
    assert twin(pair.images).dtype == torch.float32, "images are cast to the weights' dtype"
    torch.testing.assert_close(twin(pair.images).double(), expected, rtol=1e-3, atol=1e-4)
    twin.bfloat16()
    cache = cached(twin, pair.images)
    assert cache["embed"].dtype == twin.accumulated_bias(0).dtype == torch.bfloat16
