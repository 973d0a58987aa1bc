"""What is changed on a bridge itself is refused, or followed: no number is another model's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from transformer_lens.model_bridge.generalized_components import LinearBridge
from transformers import CLIPVisionModelWithProjection

from clip_lens_plugin import HookedCLIP, as_hooked_clip, decompose
from clip_lens_plugin.adapters.checks.structure import SourceMismatchError
from clip_lens_plugin.decomposition.running.runs import decompose_images
from tests.adapters.conversion import clip_model, siglip_model, vision_model
from tests.adapters.test_transformers_tower import distance
from tests.bridge.conftest import boot
from tests.conftest import random_clip, random_images
from tests.support.families import SIGLIP, vit

pytestmark = pytest.mark.slow


class Doubled(LinearBridge):
    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return 2 * super().forward(*args, **kwargs)


def double(module: Any, given: Any, found: Any) -> Any:
    return 2 * found


def own_forward(bridge: Any) -> None:
    plain = bridge.forward
    object.__setattr__(bridge, "forward", lambda *args, **kwargs: 2 * plain(*args, **kwargs))


def own_forward_of_a_component(bridge: Any) -> None:
    plain = bridge.blocks[1].attn.forward
    object.__setattr__(bridge.blocks[1].attn, "forward", lambda *args, **kwargs: (0 * plain(*args, **kwargs)[0], None))


def own_forward_of_the_model(bridge: Any) -> None:
    plain = bridge.original_model.forward
    bridge.original_model.forward = lambda **kwargs: plain(pixel_values=2 * kwargs["pixel_values"])


def driver(bridge: Any) -> None:
    plain = bridge._driver.forward
    bridge._driver.forward = lambda *args, **kwargs: plain(pixel_values=2 * kwargs["pixel_values"])


def hook_on_the_bridge(bridge: Any) -> None:
    bridge.register_forward_hook(double)


def hook_before_the_bridge(bridge: Any) -> None:
    bridge.register_forward_pre_hook(lambda module, given: (2 * given[0],))


def hook_on_a_block(bridge: Any) -> None:
    bridge.blocks[0].register_forward_hook(double)


def hook_on_a_norm(bridge: Any) -> None:
    bridge.ln_final.register_forward_hook(double)


def hook_inside_a_norm(bridge: Any) -> None:
    bridge.blocks[0].ln1._norm.register_forward_hook(double)


def other_class(bridge: Any) -> None:
    bridge.blocks[1].mlp.out.__class__ = Doubled


def other_class_of_the_bridge(bridge: Any) -> None:
    class Louder(type(bridge)):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return 2 * super().forward(*args, **kwargs)

    object.__setattr__(bridge, "__class__", Louder)


def epsilon(bridge: Any) -> None:
    bridge.blocks[1].ln2.original_component.eps = 0.5


def epsilon_through_the_component(bridge: Any) -> None:
    bridge.ln_final.eps = 0.5


def width_of_a_head(bridge: Any) -> None:
    object.__setattr__(bridge.blocks[0].attn, "_width", 2 * bridge.blocks[0].attn._width)


def norm_of_another_layer(bridge: Any) -> None:
    blocks = bridge.blocks
    object.__setattr__(blocks[0].ln1, "_norm", blocks[1].ln1._norm)


def component_of_another_layer(bridge: Any) -> None:
    bridge.blocks[0]._modules["mlp"] = bridge.blocks[1].mlp


def order_of_blocks(bridge: Any) -> None:
    layers = bridge.original_model.vision_model.encoder.layers
    layers._modules = {"0": layers[1], "1": layers[0], "2": layers[2]}


def other_component(bridge: Any) -> None:
    plain = bridge.blocks[0].mlp.out
    plain._modules["_original_component"] = nn.Sequential(plain.original_component)


def other_model(bridge: Any) -> None:
    bridge.original_model = type(bridge.original_model)(bridge.original_model.config)


def model_of_another_bridge(bridge: Any) -> None:
    bridge.original_model = copy.deepcopy(bridge).original_model


def activation(bridge: Any) -> None:
    bridge.blocks[0].mlp.original_component.activation_fn = nn.ReLU()


def stop(bridge: Any) -> None:
    for block in bridge.blocks:
        block._stop_at_layer_idx = 2


CHANGES: dict[Callable[[Any], None], str] = {
    own_forward: "the bridge has a forward of its own",
    own_forward_of_a_component: r"layers\.1\.self_attn has a forward of its own",
    own_forward_of_the_model: r"Model has a forward of its own",
    driver: "the bridge is run by something else",
    hook_on_the_bridge: "the bridge has a forward hook",
    hook_before_the_bridge: "the bridge has a forward hook",
    hook_on_a_block: r"layers\.0 has a forward hook",
    hook_on_a_norm: r"post_layernorm has a forward hook",
    hook_inside_a_norm: r"blocks\.0\.\S*_norm has a forward hook",
    other_class: r"blocks\.1\.\S* is a Doubled of tests",
    other_class_of_the_bridge: r"streams part first at the pooling or the projection, after the last block",
    epsilon: r"layers\.1\.layer_norm2 has eps=0\.5, where its config makes it 1e-0\d",
    epsilon_through_the_component: r"post_layernorm has eps=0\.5",
    width_of_a_head: r"streams part first at blocks\.0\.hook_resid_post",
    norm_of_another_layer: r"streams part first at blocks\.0\.hook_resid_post",
    component_of_another_layer: r"layers\.0\.mlp\.fc1\.weight is a parameter too many",
    order_of_blocks: "the bridge has other blocks, or in another order",
    other_component: r"layers\.0\.mlp\.fc2 is of torch\S*Sequential, not",
    other_model: "original_model is not the model that the bridge was booted from",
    model_of_another_bridge: "the bridge has other blocks, or in another order, than the model that it runs",
    activation: r"layers\.0\.mlp\.activation_fn is of torch\S*ReLU",
    stop: r"differs in shape from what follows from its weights",
}
"""What is done to a bridge, and what the refusal says."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return boot(tmp_path_factory.mktemp("watch") / "model", clip_model(random_clip()))


@pytest.fixture
def bridge(plain: Any) -> Any:
    return copy.deepcopy(plain)


@pytest.mark.parametrize("first", [True, False], ids=["taken before", "taken after"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_of_the_bridge_is_refused(bridge: Any, change: Callable[[Any], None], first: bool):
    if first:
        hooked = as_hooked_clip(bridge)
        assert decompose_images(bridge, random_images(hooked, 1)).completeness_error() < 1e-5
        assert as_hooked_clip(bridge) is hooked
    change(bridge)
    for _ in range(2):
        with pytest.raises(SourceMismatchError, match=CHANGES[change]):
            as_hooked_clip(bridge)


def points(bridge: Any) -> Iterator[Any]:
    """Hook points of each kind: TransformerLens's own and ours, in components, norms and blocks."""
    block = bridge.blocks[1]
    yield from (block.attn.q.hook_out, block.attn.hook_pattern, block.ln1.hook_scale, block.hook_resid_mid)
    yield from (block.mlp.hook_in, bridge.ln_final.hook_out, bridge.embed.hook_out, bridge.blocks[2].hook_out)


def test_native_hooks_at_hook_points_are_refused_for_images_and_kept_for_a_cache(bridge: Any):
    images = random_images(as_hooked_clip(bridge), 2)
    unchanged = decompose_images(bridge, images)
    for point in points(bridge):
        for register in (point.register_forward_hook, point.register_forward_pre_hook):
            handle = register(lambda module, *given: None)
            with pytest.raises(ValueError, match=r"The bridge has hooks at \S+, which have no effect here"):
                decompose_images(bridge, images)
            handle.remove()
    handle = bridge.blocks[0].hook_resid_mid.register_forward_hook(double)
    with torch.no_grad():
        output, cache = bridge.run_with_cache(images)
    found = decompose(bridge, cache, strict=True)
    assert distance(found.embedding, output) < 1e-5
    assert distance(found.embedding, unchanged.embedding) > 1e-3
    handle.remove()
    torch.testing.assert_close(decompose_images(bridge, images).embedding, unchanged.embedding)


def test_a_bridge_first_seen_under_hooks_is_probed_when_they_are_gone(bridge: Any):
    width_of_a_head(bridge)
    with bridge.hooks(fwd_hooks=[("blocks.0.hook_resid_mid", lambda x, hook: x)]):
        assert bridge.accumulated_bias(1).ndim == 1  # Weights alone, which are right.
        with pytest.raises(ValueError, match=r"has hooks at blocks\.0\.hook_resid_mid"):
            as_hooked_clip(bridge)
    with pytest.raises(SourceMismatchError, match="streams part"):
        as_hooked_clip(bridge)


def test_changes_of_a_pool_are_refused(tmp_path):
    plain = boot(tmp_path / "model", siglip_model(vit(**SIGLIP)))
    changes: list[tuple[Callable[[Any], object], str]] = [
        (lambda pool: pool.register_forward_hook(double), r"vision_model\.head has a forward hook"),
        (lambda pool: pool._pool.register_forward_hook(double), r"pool\._pool has a forward hook"),
        (lambda pool: pool._modules["mlp"].register_forward_hook(double), r"pool\.mlp has a forward hook"),
        (lambda pool: setattr(pool._pool, "n_heads", 2), "the pooling or the projection, after the last block"),
        (lambda pool: setattr(pool.original_component.layernorm, "eps", 0.5), r"head\.layernorm has eps=0\.5"),
    ]
    for change, message in changes:
        bridge = copy.deepcopy(plain)
        hooked = as_hooked_clip(bridge)
        change(bridge.pool)
        with pytest.raises(SourceMismatchError, match=message):
            as_hooked_clip(bridge)
    for point in (plain.pool.hook_z, plain.pool.hook_in, plain.pool.ln2.hook_scale):
        handle = point.register_forward_hook(lambda module, *given: None)
        with pytest.raises(ValueError, match=r"The bridge has hooks at pool\."):
            decompose_images(plain, random_images(hooked, 1))
        handle.remove()
    assert (
        distance(decompose_images(plain, random_images(hooked, 2)).embedding, hooked(random_images(hooked, 2))) < 1e-5
    )


def test_a_change_that_is_undone_is_forgotten(bridge: Any):
    hooked = as_hooked_clip(bridge)
    epsilon(bridge)
    with pytest.raises(SourceMismatchError):
        as_hooked_clip(bridge)
    bridge.blocks[1].ln2.original_component.eps = hooked.blocks[1].ln2.norm.module.eps
    assert as_hooked_clip(bridge) is hooked


def test_a_function_of_a_class_is_replaced(bridge: Any, monkeypatch: pytest.MonkeyPatch):
    as_hooked_clip(bridge)
    monkeypatch.setattr(LinearBridge, "forward", lambda self, x, *args, **kwargs: 2 * x)
    with pytest.raises(SourceMismatchError, match="the forward of LinearBridge was replaced for all its instances"):
        as_hooked_clip(bridge)


def test_what_makes_no_difference_is_let_be(bridge: Any):
    hooked, images = as_hooked_clip(bridge), random_images(as_hooked_clip(bridge), 2)
    expected = hooked(images)
    bridge.train()
    bridge.note = "mine"
    bridge.blocks[0].note = "mine"
    bridge.blocks[0].attn.register_full_backward_hook(lambda module, given, found: None)
    bridge.cfg.use_hook_mlp_in = True
    bridge.set_use_attn_result(True)
    bridge.reset_hooks()
    assert torch.equal(decompose_images(bridge, images).embedding, expected)
    with torch.no_grad():
        bridge.original_model.vision_model.post_layernorm.bias.add_(1)
    assert distance(decompose_images(bridge, images).embedding, bridge(images)) < 1e-5
    assert distance(hooked(images), expected) > 1e-3


def test_dropout_in_training_mode_is_refused(tmp_path):
    source = vision_model(random_clip())
    source.config.attention_dropout = 0.5
    made = CLIPVisionModelWithProjection(source.config)
    bridge = boot(tmp_path / "model", made)
    assert isinstance(as_hooked_clip(bridge), HookedCLIP)
    bridge.train()
    with pytest.raises(SourceMismatchError, match=r"drops values at random, since it is in training mode"):
        as_hooked_clip(bridge)
    bridge.eval()
    assert isinstance(as_hooked_clip(bridge), HookedCLIP)
