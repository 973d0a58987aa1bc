"""The parts sum to the model's own output, with and without hooks, and mean what equation 4 says."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from clip_lens_plugin import HookedCLIP, decompose
from clip_lens_plugin.decomposition.contributions import CompletenessError, TokensNotAvailableError
from clip_lens_plugin.decomposition.running.activations import MissingActivationsError
from tests.conftest import TOWERS, random_clip, random_images


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def ablate_head_1(activation, hook):
    activation[:, :, 1] = 0.0
    return activation


def test_parts_sum_to_open_clips_own_embedding_in_float64(tower):
    images = random_images(tower)
    expected = tower.clip.encode_image(images).detach()
    _, cache = tower.run_with_cache(images)
    for contributions in (decompose(tower, cache), tower.decompose(images, batch_size=2)):
        assert relative_error(contributions.total(), expected) < 1e-12
        assert contributions.completeness_error() < 1e-12


@pytest.mark.parametrize("name", TOWERS)
def test_parts_sum_to_open_clips_own_embedding_in_float32(name):
    model = HookedCLIP.from_open_clip(random_clip(TOWERS[name]), model_name=name)
    images = random_images(model)
    contributions = model.decompose(images, strict=True)
    assert relative_error(contributions.total(), model.clip.encode_image(images).detach()) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_decomposed_in_float32(dtype):
    model = HookedCLIP.from_open_clip(random_clip(dtype=dtype))
    contributions = model.decompose(random_images(model), strict=True)
    assert contributions.heads.dtype == torch.float32


def test_tokens_and_heads_restate_equation_4(model):
    """c[b, i, l, h] = A[0, i] v_i W_O γP / σ, centred, written out from the cache and the weights."""
    images = random_images(model)
    _, cache = model.run_with_cache(images)
    contributions = decompose(model, cache)
    tower = model.clip.visual
    final = cache["blocks.2.hook_resid_post"][:, 0]
    sigma = (final.var(-1, unbiased=False) + tower.ln_post.eps).sqrt()
    for layer in range(3):
        attention = tower.transformer.resblocks[layer].attn
        w_o = attention.out_proj.weight.T.reshape(4, 12, 48)
        pattern, v = cache["pattern", layer], cache["v", layer]
        for head in range(4):
            stream = torch.einsum("bi,bik->bik", pattern[:, head, 0], v[:, :, head]) @ w_o[head]
            centred = stream - stream.mean(-1, keepdim=True)
            expected = (centred / sigma[:, None, None] * tower.ln_post.weight) @ tower.proj
            torch.testing.assert_close(contributions.tokens(layer, head), expected)
            torch.testing.assert_close(contributions.heads[:, layer, head], expected.sum(1))


@pytest.mark.parametrize("kind", ["plain", "norm_then_mean"])
def test_attention_is_that_of_the_tokens_that_are_read(kind):
    """The class token's row; of a mean over normalised patches their rows, each over its own σ."""
    tower = HookedCLIP.from_open_clip(random_clip(TOWERS[kind], torch.float64))
    images = random_images(tower)
    _, cache = tower.run_with_cache(images)
    found = tower.decompose(images, tokens=True)
    for layer, head in ((0, 1), (2, 3)):
        pattern = cache["pattern", layer][:, head]
        if kind == "plain":
            expected = pattern[:, 0]
        else:
            read = pattern[:, 1:] / cache["ln_final.hook_scale"][:, 1:]
            expected = read.sum(1) / read.sum((1, 2))[:, None]
        torch.testing.assert_close(found.attention(layer, head), expected)
        torch.testing.assert_close(found.normalized().attention(layer, head), expected)
    with pytest.raises(ValueError, match="Single tokens were not kept"):
        tower.decompose(images).attention(0, 0)


def test_tokens_of_both_ways_agree_and_sum_to_heads(tower):
    images = random_images(tower)
    _, cache = tower.run_with_cache(images)
    cached, streamed = decompose(tower, cache), tower.decompose(images, tokens=True, batch_size=2)
    for layer in range(3):
        torch.testing.assert_close(cached.tokens(layer, 2), streamed.tokens(layer, 2))
        torch.testing.assert_close(streamed.tokens(layer, 2).sum(1), streamed.heads[:, layer, 2])
    torch.testing.assert_close(streamed.tokens(-1, -1), streamed.tokens(2, tower.cfg.n_heads - 1))


def test_neurons_and_output_bias_sum_to_the_mlp(model):
    images = random_images(model)
    contributions = model.decompose(images, neurons=True)
    _, cache = model.run_with_cache(images)
    for layer in range(3):
        neurons = contributions.neurons(layer)
        torch.testing.assert_close(neurons, decompose(model, cache).neurons(layer))
        weight = contributions.readout.W_P
        bias = contributions.omega.sum(2) * (model.blocks[layer].mlp.b_out @ weight)
        torch.testing.assert_close(neurons.sum(1) + bias, contributions.mlps[:, layer])


@pytest.mark.parametrize("hook_name", ["hook_z", "hook_result", "hook_v"])
def test_ablated_head_contributes_nothing_and_the_sum_is_still_the_output(model, hook_name):
    images = random_images(model)
    with model.hooks(fwd_hooks=[(f"blocks.1.attn.{hook_name}", ablate_head_1)]):
        output, cache = model.run_with_cache(images)
        streamed = model.decompose(images, tokens=True, strict=True)
    assert not torch.allclose(output, model(images))
    for contributions in (decompose(model, cache, strict=True), streamed):
        assert contributions.heads[:, 1, 1].abs().max() == 0
        assert contributions.tokens(1, 1).abs().max() == 0
        assert contributions.heads[:, 1, 2].abs().max() > 0
        assert relative_error(contributions.total(), output.detach()) < 1e-12


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize(
    "name",
    [
        "hook_resid_pre",
        "hook_attn_out",
        "hook_resid_mid",
        "hook_mlp_out",
        "hook_resid_post",
        "attn.hook_result",
    ],
)
def test_any_edit_of_the_stream_is_accounted_for(model, name, layer):
    images = random_images(model)

    def edit(activation, hook):
        return activation * 1.5 + torch.linspace(-1, 1, activation.shape[-1], dtype=activation.dtype)

    with model.hooks(fwd_hooks=[(f"blocks.{layer}.{name}", edit)]):
        output, cache = model.run_with_cache(images)
        streamed = model.decompose(images, batch_size=2)
    for contributions in (decompose(model, cache), streamed):
        assert relative_error(contributions.total(), output.detach()) < 1e-12


def test_attention_pattern_edits_reach_the_tokens(model):
    images = random_images(model)

    def only_first_patch(pattern, hook):
        pattern = torch.zeros_like(pattern)
        pattern[..., 1] = 1.0
        return pattern

    with model.hooks(fwd_hooks=[("blocks.2.attn.hook_pattern", only_first_patch)]):
        tokens = model.decompose(images, tokens=True, strict=True).tokens(2, 0)
    assert tokens[:, 1].abs().max() > 0
    assert tokens[:, 0].abs().max() == 0
    assert tokens[:, 2:].abs().max() == 0


def test_replaced_head_has_no_tokens(model):
    images = random_images(model)
    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", lambda z, hook: z + 1)]):
        contributions = model.decompose(images, tokens=True)
    with pytest.raises(TokensNotAvailableError, match=r"L1H0.*hook_v"):
        contributions.tokens(1, 0)
    assert contributions.tokens(0, 0).shape == (3, 17, 24)


def test_towards_is_the_dot_product(model):
    images = random_images(model)
    texts = model.encode_text(["a dog", "a cat", "three stars"])
    contributions = model.decompose(images, tokens=True)
    torch.testing.assert_close(contributions.towards(texts), contributions.heads @ texts.T)
    by_token = contributions.towards(texts, per_token=True)
    torch.testing.assert_close(by_token[:, 1, 2], contributions.tokens(1, 2) @ texts.T)

    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_result", lambda r, hook: r + 1)]):
        edited = model.decompose(images)
    torch.testing.assert_close(edited.towards(texts), edited.heads @ texts.T)


def test_normalized_adds_up_to_the_cosine_and_the_logit(model):
    images = random_images(model)
    texts = model.encode_text(["a dog", "a cat"])
    contributions = model.decompose(images).normalized()
    parts, labels = contributions.stack()
    cosine = torch.nn.functional.cosine_similarity(model(images)[:, None], texts, dim=-1)
    torch.testing.assert_close((parts @ texts.T).sum(1), cosine.detach())
    logits, _ = model.clip.get_logits(images, model.tokenizer(["a dog", "a cat"]))
    torch.testing.assert_close(model.logit_scale * (parts @ texts.T).sum(1), logits.detach())
    assert len(labels) == parts.shape[1] == 1 + 12 + 3 + 3 + 1
    assert (contributions.unit, model.decompose(images).unit) == ("cosine", "embedding")
    assert contributions.normalized() is contributions


def test_shared_constants_restate_the_papers_code(model):
    """There, each of T = 2L + 1 terms gets 1/T of the mean and of β, and heads and tokens equal shares of theirs."""
    images = random_images(model)
    _, cache = model.run_with_cache(images)
    contributions = decompose(model, cache, constants="shared")
    tower = model.clip.visual
    final = cache["blocks.2.hook_resid_post"][:, 0]
    mean, sigma = final.mean(-1)[:, None], (final.var(-1, unbiased=False) + tower.ln_post.eps).sqrt()[:, None]
    terms, heads, tokens = 7, 4, 17
    gamma, beta = tower.ln_post.weight, tower.ln_post.bias
    attention = tower.transformer.resblocks[1].attn
    stream = cache["pattern", 1][:, 3, 0, :, None] * cache["v", 1][:, :, 3]
    stream = stream @ attention.out_proj.weight.T.reshape(4, 12, 48)[3]
    stream = stream + attention.out_proj.bias / (tokens * heads)
    share = terms * tokens * heads
    expected = ((stream - mean[:, None] / share) / sigma[:, None] * gamma + beta / share) @ tower.proj
    torch.testing.assert_close(contributions.tokens(1, 3), expected)
    mlp = ((cache["mlp_out", 1][:, 0] - mean / terms) / sigma * gamma + beta / terms) @ tower.proj
    torch.testing.assert_close(contributions.mlps[:, 1], mlp)
    texts = model.encode_text(["a dog", "a cat"])
    torch.testing.assert_close(contributions.towards(texts), contributions.heads @ texts.T)
    torch.testing.assert_close(contributions.total(), model(images).detach())


def test_incomplete_sum_warns_and_strict_mode_raises(model):
    images = random_images(model)
    with model.hooks(fwd_hooks=[("ln_final.hook_normalized", lambda x, hook: x + 1)]):
        with pytest.warns(UserWarning, match="do not sum"):
            contributions = model.decompose(images)
        with pytest.raises(CompletenessError, match="ln_final"):
            model.decompose(images, strict=True)
    assert contributions.completeness_error() > 1e-3
    assert "completeness_error" in repr(contributions)


def test_what_was_not_kept_is_named(model):
    images = random_images(model)
    _, cache = model.run_with_cache(images, names_filter=lambda name: "mlp_out" in name)
    with pytest.raises(MissingActivationsError, match="hook_embed"):
        decompose(model, cache)
    contributions = model.decompose(images)
    with pytest.raises(TokensNotAvailableError, match="tokens=True"):
        contributions.tokens(0, 0)
    with pytest.raises(MissingActivationsError, match="neurons=True"):
        contributions.neurons(0)
    with pytest.raises(IndexError, match="layers 0 to 2"):
        contributions.tokens(3, 0)


def test_bad_arguments_are_refused(model):
    images = random_images(model)
    with pytest.raises(ValueError, match="No images"):
        model.decompose(images[:0])
    # Where signatures are checked, as in these tests, the wrong name does not even reach the function.
    with pytest.raises((ValueError, TypeCheckError), match="smeared"):
        model.decompose(images, constants="smeared")
    with pytest.raises(ValueError, match=r"\[texts, 24\]"):
        model.decompose(images).towards(torch.zeros(2, 23, dtype=torch.float64))
    _, squeezed = model.run_with_cache(images[:1], remove_batch_dim=True)
    with pytest.raises(ValueError, match="remove_batch_dim=False"):
        decompose(model, squeezed)
    _, sliced = model.run_with_cache(images, pos_slice=slice(0, 2))
    with pytest.raises(ValueError, match="without pos_slice"):
        decompose(model, sliced)


def test_decomposing_leaves_no_hook_behind(model):
    model.decompose(random_images(model), tokens=True, neurons=True)
    assert not any(point.has_hooks() for point in model.hook_dict.values())
