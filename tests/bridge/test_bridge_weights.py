"""Weights, labels, copies and precision of a bridge are those of a ``HookedCLIP``, or refused."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens import SVDInterpreter
from transformer_lens.tools.analysis import direct_logit_attribution, logit_lens

from clip_lens_plugin import HookedCLIP, as_hooked_clip
from clip_lens_plugin.bridge.clip_bridge import CLIPBridge
from tests.adapters.test_transformers_tower import distance
from tests.bridge.conftest import KINDS, LABELS, Pair, boot
from tests.bridge.same import assert_same, cached, returned

pytestmark = pytest.mark.slow

N_LAYERS = 3
ROUNDED = 1e-6
"""Siglip2Model rounds its positions to float32 in any precision."""
POSITIONS = (None, 0, (1, 4), [5, 2])
LAYERS = (None, 0, 1, 2, 3, -1)
POOLED = "pools by attention, so a text has no one direction"


# ---------------------------------------------------------------------- weights

WEIGHTS = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O", "W_in", "W_out", "b_in", "b_out", "W_gate")


def test_weights_are_the_same(pair: Pair):
    for name in WEIGHTS:
        assert_same(*pair.both(lambda m, x, name=name: getattr(m, name)), name)
    for part, name in [("ln1", "w"), ("ln2", "b"), ("attn", "W_O"), ("mlp", "b_in"), ("mlp", "W_out")]:
        assert_same(*pair.both(lambda m, x, p=part, n=name: getattr(getattr(m.blocks[1], p), n)), f"{part}.{name}")
    assert_same(*pair.both(lambda m, x: [m.ln_final.w, m.ln_final.b]), "ln_final")
    assert_same(*pair.both(lambda m, x: [m.blocks[1].attn.OV.AB, m.blocks[1].attn.QK.AB]), "circuits of a layer")
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
        "unembed": lambda m, x: m.unembed(m.ln_final(cached(m, x)["resid_post", -1])),
        "unembed's weights": lambda m, x: [m.unembed.W_U, m.unembed.b_U],
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
    assert_same(*pair.both(lambda m, x: [m.to_string(2), m.to_str_tokens([3, 0]), m.to_single_str_token(1)]), "strings")
    assert_same(*pair.both(lambda m, x: m(x, return_type="logits")), "logits")


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
    with pytest.raises(NotImplementedError, match=r"no tokens to show.*labels.names"):
        pair.bridge.get_token_position(torch.tensor([1]))
    with pytest.raises(AttributeError, match="no token embeddings W_E"):
        _ = pair.bridge.W_E
    with pytest.raises(AttributeError, match="W_pos is only defined for"):
        _ = pair.bridge.W_pos


def test_without_labels_the_first_step_is_named(tmp_path):
    bridge = boot(tmp_path / "model", KINDS["CLIPModel"]())
    hooked = as_hooked_clip(bridge)
    for model in (bridge, hooked):
        assert not hasattr(model, "W_U")
        with pytest.raises(ValueError, match=r"No text labels are set. Call model.set_labels"):
            _ = model.W_U
        with pytest.raises(AttributeError, match=r"No text labels are set. Call model.set_labels"):
            model(torch.zeros(1, 3, 32, 32), return_type="logits")
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
        (lambda b, x: b(x, return_type="predictions"), ValueError, "do not support return_type='predictions'"),
        (lambda b, x: b(x, prepend_bos=True), TypeError, "prepend_bos is for language models"),
        (lambda b, x: b.run_with_hooks(x, attention_mask=x[:, 0, 0]), ValueError, "attention_mask is for language"),
        (lambda b, x: b(x, stop_at_layer=4), IndexError, "stop_at_layer must be -3 to 3, got 4"),
        (lambda b, x: b.generate("a text"), NotImplementedError, "generation is not supported"),
        (lambda b, x: b(x[..., :-8]), ValueError, r"takes images of shape \[batch, 3, 32, 32\], got \[3, 3, 32, 24\]"),
        (lambda b, x: b(x[0]), ValueError, r"takes images of shape \[batch, 3, 32, 32\], got \[3, 32, 32\]"),
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
