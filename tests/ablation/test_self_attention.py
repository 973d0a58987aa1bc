"""Ablation of what the class token sends to itself, against open_clip's attention computed from its weights."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from clip_lens_plugin import HookedCLIP, decompose
from clip_lens_plugin.ablation.hooks import zero_ablation
from clip_lens_plugin.ablation.self_attention import class_self_attention_hooks, class_self_attention_messages
from tests.ablation.conftest import (
    D_HEAD,
    N_HEADS,
    N_LAYERS,
    TOWERS_ABLATED,
    assert_close,
    assert_same_gradients,
    encode_with,
    exact_model,
    point,
    without_heads,
)
from tests.conftest import random_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=TOWERS_ABLATED)
def model(request: pytest.FixtureRequest) -> HookedCLIP:
    return exact_model(request.param)


def self_message(attention: nn.MultiheadAttention, normed: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √k)[0, 0] · V[0] of each head [b, h, k], from the weights alone."""
    q, k, v = (normed @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    by_head = []
    for head in range(N_HEADS):
        columns = slice(head * D_HEAD, (head + 1) * D_HEAD)
        scores = (k[..., columns] @ q[:, 0, columns, None]).squeeze(-1) / D_HEAD**0.5
        weight = scores[:, 0].exp() / scores.exp().sum(-1)
        by_head.append(weight[:, None] * v[:, 0, columns])
    return torch.stack(by_head, dim=1)


def self_message_hooks(clip: nn.Module, replacements: dict[int, Tensor | None]) -> list[tuple[nn.Module, Callable]]:
    """torch hooks on open_clip's attention modules that write the replacement in place of the message."""

    def hook(module, args, output, replacement):
        message = self_message(module, args[0])
        change = (0.0 if replacement is None else replacement) - message
        written = torch.zeros_like(output[0])
        written[:, 0] = change.flatten(1) @ module.out_proj.weight.T
        return (output[0] + written, *output[1:])

    blocks = clip.visual.transformer.resblocks
    return [
        (blocks[l].attn, lambda module, args, output, given=given: hook(module, args, output, given))
        for l, given in replacements.items()
    ]


def messages_by_open_clip(clip: nn.Module, images: Tensor, layer: int) -> Tensor:
    seen: list[Tensor] = []
    module = clip.visual.transformer.resblocks[layer].attn
    encode_with(clip, images, [(module, lambda module, args, output: seen.append(self_message(module, args[0])))])
    return seen[0]


def test_messages_are_those_of_open_clip(model) -> None:
    images = random_images(model, 5)
    messages = class_self_attention_messages(model, images, [-1, 0], batch_size=2)
    assert list(messages) == [2, 0]
    for layer, message in messages.items():
        assert message.shape == (5, N_HEADS, D_HEAD)
        assert_close(message, messages_by_open_clip(model.clip, images, layer))


@pytest.mark.parametrize("layers", [[1], [0, 1, 2], [-1, 2]])
@pytest.mark.parametrize("kind", ["zero", "mean", "resample"])
def test_class_self_attention_ablation_is_that_of_open_clip(model, images, others, layers, kind) -> None:
    donors = class_self_attention_messages(model, others, layers)
    replacement = {
        "zero": None,
        "mean": {l: messages.mean(0) for l, messages in donors.items()},
        "resample": donors,
    }[kind]
    by_layer = dict.fromkeys(donors, None) if replacement is None else replacement
    expected = encode_with(model.clip, images, self_message_hooks(model.clip, by_layer))
    hooks = class_self_attention_hooks(model, layers, replacement)
    assert_close(model.run_with_hooks(images, fwd_hooks=hooks), expected)
    assert (expected - model.clip.encode_image(images)).abs().max() > 1e-3
    with model.hooks(fwd_hooks=hooks):
        decomposed = [decompose(model, model.run_with_cache(images)[1], strict=True), model.decompose(images)]
    for contributions in decomposed:
        assert_close(contributions.total(), expected)


def test_only_z_of_the_class_token_changes_and_in_a_copy(model, images) -> None:
    cache = model.run_with_cache(images)[1]
    z = cache["z", 1].clone()
    (_, see_value), (_, see_pattern), (name, replace) = class_self_attention_hooks(model, [1])
    see_value(cache["v", 1], hook=point("blocks.1.attn.hook_v"))
    see_pattern(cache["pattern", 1], hook=point("blocks.1.attn.hook_pattern"))
    changed = replace(z, hook=point(name))
    assert torch.equal(z, cache["z", 1])
    assert torch.equal(changed[:, 1:], z[:, 1:])
    assert_close(z[:, 0] - changed[:, 0], messages_by_open_clip(model.clip, images, 1))


def test_the_messages_themselves_change_nothing(model, images) -> None:
    own = class_self_attention_messages(model, images, range(N_LAYERS))
    hooks = class_self_attention_hooks(model, range(N_LAYERS), own)
    assert_close(model.run_with_hooks(images, fwd_hooks=hooks), model.clip.encode_image(images))


def test_an_edit_of_the_pattern_before_counts(model, images) -> None:
    """A head whose pattern is zero sends nothing, so nothing is taken from it."""
    silent = ("blocks.1.attn.hook_pattern", zero_ablation())
    hooks = [silent, *class_self_attention_hooks(model, [1])]
    expected = without_heads(model.clip, 1, list(range(N_HEADS))).encode_image(images)
    assert_close(model.run_with_hooks(images, fwd_hooks=hooks), expected)


def alive_messages(batch: int) -> int:
    gc.collect()
    shape = (batch, N_HEADS, D_HEAD)
    return sum(type(each) is Tensor and each.shape == shape for each in gc.get_objects())


def test_nothing_is_remembered_after_a_run(model) -> None:
    images = random_images(model, 5)
    hooks = class_self_attention_hooks(model, [0, 1])
    model.run_with_hooks(images, fwd_hooks=hooks)
    assert alive_messages(5) == 0
    model.run_with_hooks(images, fwd_hooks=hooks[:2])
    assert alive_messages(5) == 1


def test_runs_do_not_mix(model, images) -> None:
    """The same hooks after a run that broke off between the pattern and z, and on a batch of another size."""
    hooks = class_self_attention_hooks(model, [0, 1])
    expected = encode_with(model.clip, images, self_message_hooks(model.clip, {0: None, 1: None}))

    def fail(z: Tensor, hook) -> None:
        raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match="broken off"):
        model.run_with_hooks(images.flip(0), fwd_hooks=[("blocks.1.attn.hook_z", fail), *hooks])
    assert_close(model.run_with_hooks(images, fwd_hooks=hooks), expected)
    assert_close(model.run_with_hooks(images[:1], fwd_hooks=hooks), expected[:1])


def test_gradients_are_those_of_open_clip_ablated_the_same_way(model, images) -> None:
    theirs = self_message_hooks(model.clip, dict.fromkeys((0, 2), None))
    assert_same_gradients(model, images, class_self_attention_hooks(model, [0, 2]), model.clip, theirs)


def test_bad_messages_and_layers_are_refused(model, images) -> None:
    message = torch.zeros(N_HEADS, D_HEAD, dtype=torch.float64)
    with pytest.raises(IndexError, match="no layer 3"):
        class_self_attention_hooks(model, [0, 3])
    with pytest.raises(IndexError, match="no layer -4"):
        class_self_attention_messages(model, images, [-4])
    with pytest.raises(ValueError, match="No images"):
        class_self_attention_messages(model, images[:0], [0])
    with pytest.raises(ValueError, match=r"for layer 1, only for layers \[0\]"):
        class_self_attention_hooks(model, [0, 1], {0: message})
    for wrong in (message.T, message[0], message[None, None]):
        with pytest.raises(ValueError, match=r"shape \[4, 12\] or \[batch, 4, 12\]"):
            class_self_attention_hooks(model, [0], {0: wrong})
    donors = class_self_attention_hooks(model, [0], {0: message[None]})
    with pytest.raises(ValueError, match=r"shape \[3, 4, 12\].*got \[1, 4, 12\]"):
        model.run_with_hooks(images, fwd_hooks=donors)
    hooks = class_self_attention_hooks(model, [0])
    model.run_with_hooks(images, fwd_hooks=hooks[:2])  # leaves a message that no later run may take
    for incomplete in (hooks[:1] + hooks[2:], hooks[2:], hooks[1:], [*hooks, hooks[2]]):
        with pytest.raises(ValueError, match="Pass every pair"):
            model.run_with_hooks(images, fwd_hooks=incomplete)
