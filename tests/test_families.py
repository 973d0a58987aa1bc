"""Every family of image encoders is exact: its output, the sum of its parts, and each part by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clip_lens_plugin import Contributions, HookedCLIP, Moments, decompose, patch_text_map, text_span
from clip_lens_plugin.layers.pooling.attention_pool import AttentionPool
from clip_lens_plugin.maps.scoring import token_scores
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier
from tests.conftest import random_images
from tests.support.families import FAMILIES
from tests.support.reference import plain_text_span

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> HookedCLIP:
    return HookedCLIP.from_open_clip(FAMILIES[request.param]().double(), model_name=request.param)


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_output_is_the_sources(family):
    images = random_images(family)
    expected = family.clip.encode_image(images).detach()
    output, _ = family.run_with_cache(images)
    assert distance(family(images).detach(), expected) < 1e-13
    assert distance(output.detach(), expected) < 1e-13


@pytest.mark.parametrize("name", FAMILIES)
def test_single_precision_is_exact_to_its_rounding(name):
    model = HookedCLIP.from_open_clip(FAMILIES[name]().float(), model_name=name)
    images = random_images(model)
    assert distance(model(images).detach(), model.clip.encode_image(images).detach()) < 1e-5
    assert model.decompose(images, strict=True).completeness_error() < 1e-5


def test_parts_sum_to_the_output_from_images_and_from_a_cache(family):
    images = random_images(family)
    expected = family.clip.encode_image(images).detach()
    output, cache = family.run_with_cache(images)
    for constants in ("separate", "shared"):
        streamed = family.decompose(images, tokens=True, constants=constants)
        for c in (streamed, decompose(family, cache, constants=constants)):
            assert distance(c.total(), expected) < 1e-12
            for layer in range(3):
                torch.testing.assert_close(c.tokens(layer, 1).sum(1), c.heads[:, layer, 1])
            for part in ("heads", "mlps", "embed", "attn_bias", "ln_bias"):
                torch.testing.assert_close(getattr(c, part), getattr(streamed, part))
    assert float(decompose(family, cache).edits.norm() / output.norm()) < 1e-12


def removed(family: HookedCLIP, images: Tensor, name: str, change) -> Tensor:
    """What the output loses when one activation is changed and every statistic and later output is held."""
    output, cache = family.run_with_cache(images)
    layer = int(name.split(".")[1])

    def held(key: str) -> bool:
        scales = key.startswith(
            ("ln_final.hook_scale", "pool.ln_post.hook_scale", "pool.hook_pattern", "pool.hook_mlp")
        )
        later = key.startswith("blocks.") and int(key.split(".")[1]) > layer
        own = key == f"blocks.{layer}.hook_mlp_out" and not name.endswith("mlp_out")
        return scales or own or (later and key.endswith(("hook_attn_out", "hook_mlp_out")))

    hooks = [(key, lambda x, hook: cache[hook.name]) for key in family.hook_dict if held(key)]
    return output - family.run_with_hooks(images, fwd_hooks=[*hooks, (name, change)])


def test_a_head_is_what_its_removal_takes_away(family):
    images = random_images(family)

    def silence(z: Tensor, hook) -> Tensor:
        z = z.clone()
        z[:, :, 2] = 0
        return z

    with torch.no_grad():
        heads, mlps = family.decompose(images).heads, family.decompose(images).mlps
        for layer in range(3):
            lost = removed(family, images, f"blocks.{layer}.attn.hook_z", silence)
            torch.testing.assert_close(lost, heads[:, layer, 2], rtol=1e-9, atol=1e-10)
            lost = removed(family, images, f"blocks.{layer}.hook_mlp_out", lambda x, hook: torch.zeros_like(x))
            torch.testing.assert_close(lost, mlps[:, layer], rtol=1e-9, atol=1e-10)


def test_every_hook_point_is_live(family):
    images = random_images(family)
    plain = family(images)
    for name in family.hook_dict:
        noise = torch.Generator().manual_seed(1)

        def edit(x: Tensor, hook, noise=noise) -> Tensor:
            return x * (1 + 0.3 * torch.rand(x.shape, generator=noise, dtype=x.dtype))

        with torch.no_grad():
            assert distance(family.run_with_hooks(images, fwd_hooks=[(name, edit)]), plain) > 1e-6, name
            same = family.run_with_hooks(images, fwd_hooks=[(name, lambda x, hook: None)])
            assert distance(same, plain) < 1e-12, name


def test_gradients_are_the_sources(family):
    images = random_images(family).requires_grad_()
    direction = torch.randn(family.cfg.d_embed, dtype=torch.float64)
    (expected,) = torch.autograd.grad((family.clip.encode_image(images) @ direction).sum(), images)
    (fused,) = torch.autograd.grad((family(images) @ direction).sum(), images)
    heard = family.run_with_hooks(images, fwd_hooks=[(lambda name: True, lambda x, hook: None)])
    (explicit,) = torch.autograd.grad((heard @ direction).sum(), images)
    assert distance(fused, expected) < 1e-12
    assert distance(explicit, expected) < 1e-12


def test_an_intervention_is_decomposed_as_it_ran(family):
    """Patterns, keys, one head, an MLP, the stream: whatever a hook changed, the parts sum to the changed output."""
    images = random_images(family)

    def ablate(x: Tensor, hook) -> Tensor:
        x = x.clone()
        x[:, :, 1] = 0
        return x

    def shift(x: Tensor, hook) -> Tensor:
        return x * 1.5 + 0.1

    points = [("blocks.1.attn.hook_z", ablate), ("blocks.0.attn.hook_pattern", shift), ("blocks.1.hook_mlp_out", shift)]
    points += [
        ("blocks.2.attn.hook_result", ablate),
        ("blocks.1.hook_resid_mid", shift),
        ("blocks.2.attn.hook_k", shift),
    ]
    if isinstance(family.pooling, AttentionPool):
        points += [("pool.hook_pattern", shift), ("pool.hook_z", ablate)]
    for point in points:
        with torch.no_grad(), family.hooks(fwd_hooks=[point]):
            output, cache = family.run_with_cache(images)
            for c in (decompose(family, cache, strict=True), family.decompose(images, tokens=True, strict=True)):
                assert distance(c.total(), output) < 1e-12, point[0]


def test_towards_texts_maps_and_text_span_agree_with_whole_contributions(family):
    images = random_images(family, 6)
    texts = torch.nn.functional.normalize(torch.randn(5, family.cfg.d_embed, dtype=torch.float64), dim=-1)
    c = family.decompose(images, tokens=True).normalized()
    torch.testing.assert_close(c.towards(texts), c.heads @ texts.T)
    torch.testing.assert_close(c.towards(texts, per_token=True).sum(3), c.heads @ texts.T)
    family.encode_text = lambda names: texts[: len(names)]  # type: ignore[method-assign]
    maps = patch_text_map(family, images, ["a", "b", "c"])
    torch.testing.assert_close(maps.scores, c.heads.sum((1, 2)) @ texts[:3].T)
    assert maps.values.shape[-2:] == family.cfg.grid_size
    if family.cfg.n_prefix_tokens == 0:
        assert maps.class_token.abs().max() == 0
    span = text_span(family, Moments.from_contributions(c), ["a", "b", "c"], 3, [(1, 2)], text_embeddings=texts[:3])[
        1, 2
    ]
    written = c.heads[:, 1, 2]
    assert span.total_variance == pytest.approx(float((written - written.mean(0)).square().sum(1).mean()))


@pytest.mark.parametrize("unit", ["embedding", "cosine"])
def test_shared_constants_are_further_coordinates_of_a_head(family, unit):
    """Moments, maps and TextSpan see through them what whole contributions say."""
    images = random_images(family, 40)
    c = family.decompose(images, tokens=True, constants="shared")
    c = c if unit == "embedding" else c.normalized()
    p, scaled = family.pooling.n_heads, c.bias_weight is not None
    more = 2 * p + 1 + p * scaled
    more += p + 1 if isinstance(family.pooling, AttentionPool) else 0  # The pool's biases, head by head.
    assert c.head_coordinates.shape[-1] == p * family.cfg.d_head + more
    for layer in range(3):
        maps = torch.stack([c.readout.head_map(layer, head, "shared") for head in range(4)])
        product = torch.einsum("bhk,hke->bhe", c.head_coordinates[:, layer], maps)
        assert distance(product, c.heads[:, layer]) < 1e-12
    texts = torch.nn.functional.normalize(torch.randn(40, family.cfg.d_embed, dtype=torch.float64), dim=-1)
    torch.testing.assert_close(c.towards(texts), c.heads @ texts.T)
    torch.testing.assert_close(c.towards(texts, per_token=True)[:, 1, 2], c.tokens(1, 2) @ texts.T)
    if unit == "cosine":
        found = token_scores(family, images, texts[:3], "shared")
        torch.testing.assert_close(found, c.towards(texts[:3], per_token=True))
    names = [str(i) for i in range(40)]
    span = text_span(family, Moments.from_contributions(c), names, 8, [(2, 1)], text_embeddings=texts)[2, 1]
    picks, shares = plain_text_span(c.heads[:, 2, 1], texts, 8)
    assert span.indices == picks
    assert span.explained_variance == pytest.approx(shares, abs=1e-9)


def test_neurons_sum_to_their_mlp_or_are_refused(family):
    images = random_images(family)
    c = family.decompose(images, neurons=True)
    if family.blocks[0].mlp.normalises_output:
        with pytest.raises(ValueError, match="normalises what its MLPs write"):
            c.neurons(1)
        return
    readout = c.readout
    bias = family.blocks[1].mlp.b_out @ readout.by_pool_head(readout.W_P)
    with_bias = c.neurons(1).sum(1) + torch.einsum("bp,pe->be", c.omega.sum(2), bias)
    torch.testing.assert_close(with_bias.detach(), c.mlps[:, 1])


def test_a_selection_and_a_concatenation_are_those_images(family):
    images = random_images(family, 5)
    whole = family.decompose(images, tokens=True, batch_size=2)
    part: Contributions = whole.select(torch.tensor([3, 1]))
    torch.testing.assert_close(part.total(), family.clip.encode_image(images[[3, 1]]).detach())
    torch.testing.assert_close(part.tokens(2, 0), whole.tokens(2, 0)[[3, 1]])


def test_the_vocabulary_is_refused_where_attention_pools(family):
    names = ("a", "b")
    embeddings = torch.nn.functional.normalize(torch.randn(2, family.cfg.d_embed, dtype=torch.float64), dim=-1)
    ZeroShotClassifier(names, embeddings, 1.0).attach(family)
    if isinstance(family.pooling, AttentionPool):
        with pytest.raises(ValueError, match="pools by attention"):
            _ = family.W_U
        with pytest.raises(ValueError, match="pools by attention"):
            family.tokens_to_residual_directions("a")
    else:
        assert family.W_U.shape == (family.cfg.d_model, 2)
