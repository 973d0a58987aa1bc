"""Towers that compute something else than their weights say are refused by name, before and after wrapping."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import open_clip.transformer as oc
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.adapters.checks.source_check import FUNCTIONS
from clip_lens_plugin.adapters.checks.structure import SourceMismatchError
from clip_lens_plugin.adapters.choose import tower_parts
from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from tests.adapters.changes import CHANGES, LoRALinear, Shifted, blocks, integer_weights
from tests.adapters.conversion import clip_model, siglip_model
from tests.conftest import random_clip, random_images
from tests.support.families import FAMILIES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_before_wrapping(change: Callable[[Any], None]):
    clip = random_clip()
    change(clip)
    with pytest.raises(SourceMismatchError, match=CHANGES[change]) as refused:
        HookedCLIP.from_open_clip(clip, model_name="mine")
    assert str(refused.value).startswith("mine: ")


@pytest.mark.parametrize("change", [each for each in CHANGES if each is not integer_weights], ids=lambda c: c.__name__)
def test_changed_after_wrapping(change: Callable[[Any], None]):
    model = HookedCLIP.from_open_clip(random_clip())
    images = random_images(model)
    _, cache = model.run_with_cache(images)
    change(model.clip)
    for run in (lambda: model(images), lambda: model.decompose(images), lambda: cache and model.verify()):
        with pytest.raises(SourceMismatchError, match=r"visual"):
            run()


def test_module_swapped_after_wrapping():
    """The parts still refer to the old module, whose weights are not the source's any more."""
    model = HookedCLIP.from_open_clip(random_clip())
    images = random_images(model)
    blocks(model.clip)[1] = copy.deepcopy(blocks(model.clip)[1])
    with pytest.raises(SourceMismatchError, match=r"resblocks holds another '1' than when it was wrapped"):
        model.decompose(images)


def test_part_removed_after_wrapping():
    model = HookedCLIP.from_open_clip(random_clip())
    del blocks(model.clip)[2]
    with pytest.raises(SourceMismatchError, match=r"resblocks has lost or moved some of its parts"):
        model.verify()


class Quantised(torch.Tensor):
    """A tensor that may compute otherwise."""


def test_weights_of_another_kind():
    clip = random_clip()
    linear = blocks(clip)[0].mlp.c_fc
    linear.weight = nn.Parameter(linear.weight.detach().as_subclass(Quantised))
    with pytest.raises(SourceMismatchError, match=r"c_fc\.weight is a Quantised of tests.*Load the weights in float32"):
        HookedCLIP.from_open_clip(clip)


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [("transformer.resblocks.0.attn", "num_heads", 2), ("transformer.resblocks.1.ln_1", "eps", 0.1)],
)
def test_setting_changed_after_wrapping(path: str, name: str, value: object):
    model = HookedCLIP.from_open_clip(random_clip())
    setattr(model.clip.visual.get_submodule(path), name, value)
    with pytest.raises(SourceMismatchError, match=rf"{path}.* had {name}=.* when it was wrapped, now {value}"):
        model(random_images(model))


ABOVE: dict[str, Callable[[HookedCLIP, Any], None]] = {
    "visual": lambda model, clip: setattr(clip, "visual", random_clip(seed=1).visual),
    "model.clip": lambda model, clip: setattr(model, "clip", random_clip(seed=1)),
    "encode_image": lambda model, clip: setattr(clip, "encode_image", lambda images, normalize=False: images),
}


@pytest.mark.parametrize("what", ABOVE)
def test_what_holds_the_tower_is_replaced_after_wrapping(what: str):
    model = HookedCLIP.from_open_clip(random_clip())
    ABOVE[what](model, model.clip)
    with pytest.raises(SourceMismatchError, match=f"{what}.* was replaced after"):
        model.decompose(random_images(model))


ABOVE_TRANSFORMERS: dict[str, Callable[[Any], None]] = {
    "visual_projection": lambda source: setattr(source, "visual_projection", nn.Linear(48, 24, bias=False)),
    "vision_model": lambda source: setattr(source, "vision_model", copy.deepcopy(source.vision_model)),
    "get_image_features": lambda source: setattr(source, "get_image_features", lambda **_: torch.zeros(1, 24)),
    "logit_scale": lambda source: setattr(source, "logit_scale", nn.Parameter(torch.tensor(1.0))),
    "text_projection": lambda source: setattr(source, "text_projection", nn.Linear(32, 24, bias=False)),
    "_attn_implementation_internal": lambda source: source.set_attn_implementation("eager"),
}


@pytest.mark.parametrize("what", ABOVE_TRANSFORMERS)
def test_what_holds_a_tower_of_transformers_is_replaced_after_wrapping(what: str):
    source = clip_model(random_clip())
    model = HookedCLIP.from_transformers(source)
    ABOVE_TRANSFORMERS[what](source)
    for run in (lambda: model(random_images(model)), lambda: model.logit_scale):
        with pytest.raises(SourceMismatchError, match=f"{what} of its .* was replaced after it was wrapped"):
            run()


def test_parameter_that_was_not_there():
    clip: Any = FAMILIES["EVA-02"]()
    model = HookedCLIP.from_open_clip(clip)
    clip.visual.trunk.blocks[1].gamma_1 = nn.Parameter(torch.full((48,), 0.5))
    with pytest.raises(
        SourceMismatchError, match=r"blocks\.1 had a plain 'gamma_1' when it was wrapped, and has none now"
    ):
        model(random_images(model))
    plain = HookedCLIP.from_open_clip(random_clip())
    plain.clip.visual.conv1.bias = nn.Parameter(torch.randn(48))
    with pytest.raises(SourceMismatchError, match=r"conv1 had no 'bias' when it was wrapped, now it has one"):
        plain(random_images(plain))
    attending = HookedCLIP.from_open_clip(random_clip())
    blocks(attending.clip)[1].attn.bias_k = nn.Parameter(torch.randn(1, 1, 48))
    with pytest.raises(SourceMismatchError, match=r"1\.attn had a plain 'bias_k' when it was wrapped"):
        attending(random_images(attending))


def test_weight_that_is_lost():
    model = HookedCLIP.from_open_clip(random_clip())
    images = random_images(model)
    model.clip.visual.proj = None
    for run in (lambda: model(images), lambda: model.decompose(images), lambda: model.W_P):
        with pytest.raises(UnsupportedTowerError, match=r"open_clip model: .*proj.* None.*wrap the model again"):
            run()
    plain = HookedCLIP.from_open_clip(random_clip())
    blocks(plain.clip)[0].mlp.c_fc.bias = None
    assert plain.verify().holds
    source = clip_model(random_clip())
    source.visual_projection = None
    with pytest.raises(UnsupportedTowerError, match=r"visual_projection of this CLIPModel is None.*put its projection"):
        HookedCLIP.from_transformers(source)


def test_layer_of_another_dtype():
    said = (
        r"resblocks\.1\.mlp\.c_fc\.weight is in torch\.float64, expected torch\.float32.*visual\.to\(torch\.float32\)"
    )
    for family in ("plain", "EVA-02"):
        clip: Any = FAMILIES[family]()
        last = [each for each in clip.visual.modules() if isinstance(each, nn.Linear)][-1]
        last.double()
        with pytest.raises(SourceMismatchError, match=r"is in torch\.float64, expected torch\.float32"):
            HookedCLIP.from_open_clip(clip)
    model = HookedCLIP.from_open_clip(random_clip())
    images = random_images(model)
    blocks(model.clip)[1].mlp.c_fc.double()
    for run in (lambda: model(images), lambda: model.decompose(images), lambda: model.run_with_cache(images)):
        with pytest.raises(SourceMismatchError, match=said):
            run()
    model.clip.visual.to(torch.float32)
    assert model.verify().holds


def test_class_of_a_module_changed():
    model = HookedCLIP.from_open_clip(random_clip())
    blocks(model.clip)[1].mlp.c_fc.__class__ = LoRALinear
    with pytest.raises(SourceMismatchError, match=r"c_fc was a Linear when it was wrapped, now it is a LoRALinear"):
        model(random_images(model))


def test_weights_of_another_kind_after_wrapping():
    model = HookedCLIP.from_open_clip(random_clip())
    linear = blocks(model.clip)[0].mlp.c_fc
    linear.weight = nn.Parameter(linear.weight.detach().as_subclass(Quantised))
    with pytest.raises(SourceMismatchError, match=r"c_fc holds 'weight' as a Quantised"):
        model(random_images(model))


def test_what_changes_no_value_is_allowed():
    """Freezing idioms, notes and counters of the user's own, and hooks that ask for gradients."""
    clip: Any = random_clip()
    clip.visual.train = lambda mode=True: clip.visual
    clip.visual.calls = 0
    model = HookedCLIP.from_open_clip(clip)
    clip.visual.calls = 1
    blocks(clip)[2].mlp.compile(backend="eager")  # Runs what it ran.
    blocks(clip)[0].register_full_backward_hook(lambda module, given, found: None)
    blocks(clip)[1].train = lambda mode=True: blocks(clip)[1]
    assert model.verify().holds
    source = clip_model(random_clip())
    wrapped = HookedCLIP.from_transformers(source)
    source.enable_input_require_grads()
    assert wrapped.verify().holds


@pytest.mark.parametrize("norm", ["ln_1", "ln_2"])
def test_norms_without_weights_are_refused(norm: str):
    for plain in (nn.Identity(), oc.LayerNorm(48, elementwise_affine=False), oc.LayerNorm(48, bias=False)):
        clip = random_clip()
        setattr(blocks(clip)[1], norm, plain)
        with pytest.raises(SourceMismatchError, match=rf"resblocks\.1\.{norm} is a"):
            HookedCLIP.from_open_clip(clip)


def test_pruned_widths_are_refused_by_name():
    clip = random_clip()
    mlp = blocks(clip)[1].mlp
    mlp.c_fc, mlp.c_proj = nn.Linear(48, 100), nn.Linear(100, 48)
    with pytest.raises(UnsupportedTowerError, match=r"different numbers of neurons \(\[100, 192\]\)"):
        HookedCLIP.from_open_clip(clip)


def test_source_converted_after_wrapping():
    """The wrapper follows its source's dtype, also where the source was converted by itself."""
    model = HookedCLIP.from_open_clip(random_clip())
    model.clip.double()
    images = random_images(model)
    assert model(images).dtype == torch.float64
    assert model.verify(images).relative_difference < 1e-12
    assert model.decompose(images).completeness_error() < 1e-12


def test_compiled_model_is_checked():
    model = HookedCLIP.from_open_clip(random_clip({"vision_cfg": {"layers": 1}}))
    compiled = torch.compile(model, backend="eager")
    images = random_images(model)
    assert torch.allclose(compiled(images), model(images), atol=1e-5)
    blocks(model.clip)[0].register_forward_hook(lambda module, given, found: found * 2)
    with pytest.raises(SourceMismatchError, match="has a forward hook"):
        compiled(images)


def test_weights_may_change():
    """Training and editing weights in place is what wrapping without copies is for."""
    model = HookedCLIP.from_open_clip(random_clip())
    linear = blocks(model.clip)[1].mlp.c_fc
    with torch.no_grad():
        linear.weight += 0.1
    linear.bias = nn.Parameter(torch.zeros_like(linear.bias))
    assert model.verify().relative_difference < 1e-6


def test_attribute_that_says_nothing_may_be_added():
    model = HookedCLIP.from_open_clip(random_clip())
    model.clip.visual.my_note = "seen"
    assert model.verify().holds


def test_hook_on_all_modules():
    model = HookedCLIP.from_open_clip(random_clip())
    handle = nn.modules.module.register_module_forward_hook(lambda module, given, found: None)
    try:
        for run in (lambda: HookedCLIP.from_open_clip(random_clip()), lambda: model(random_images(model))):
            with pytest.raises(SourceMismatchError, match=r"a forward hook on all modules"):
                run()
    finally:
        handle.remove()
    assert model.verify().holds


def test_forward_of_a_class_replaced(monkeypatch: pytest.MonkeyPatch):
    model = HookedCLIP.from_open_clip(random_clip())
    for name in ("forward", "attention"):
        with monkeypatch.context() as patched:
            patched.setattr(oc.ResidualAttentionBlock, name, lambda self, x, **_: x)
            with pytest.raises(SourceMismatchError, match=rf"the {name} of ResidualAttentionBlock was replaced"):
                model(random_images(model))
    assert oc.ResidualAttentionBlock in FUNCTIONS
    assert model.verify().holds


def test_training_mode():
    """Without dropout the mode changes nothing; with it, source and wrapper would differ."""
    plain = HookedCLIP.from_open_clip(random_clip())
    plain.clip.train()
    assert plain.verify().holds
    dropping = HookedCLIP.from_open_clip(random_clip({"vision_cfg": {"patch_dropout": 0.5}}))
    dropping.clip.train()
    with pytest.raises(SourceMismatchError, match=r"visual\.patch_dropout drops values at random.*model\.eval\(\)"):
        dropping(random_images(dropping))


def test_weight_read_through_its_parametrisation():
    for make in (
        lambda linear: parametrize.register_parametrization(linear, "weight", Shifted()),
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
    ):
        clip = random_clip(dtype=torch.float64)
        plain = HookedCLIP.from_open_clip(copy.deepcopy(clip))
        make(blocks(clip)[1].mlp.c_fc)
        blocks(clip)[1].eval()
        model = HookedCLIP.from_open_clip(clip)
        images = random_images(model)
        assert model.verify(images).relative_difference < 1e-12
        assert model.decompose(images).completeness_error() < 1e-12
        assert (model(images) - plain(images)).norm() > 0 or make is parametrizations.weight_norm


def test_parametrised_after_wrapping():
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))
    before = model(random_images(model))
    parametrize.register_parametrization(blocks(model.clip)[1].mlp.c_fc, "weight", Shifted())
    assert model.verify().relative_difference < 1e-12
    assert not torch.equal(model(random_images(model)), before)


@pytest.mark.parametrize("family", ["plain", "SigLIP"])
@pytest.mark.parametrize("name", ["q_proj", "v_proj", "out_proj"])
def test_low_rank_in_transformers(family: str, name: str):
    source: Any = (clip_model if family == "plain" else siglip_model)(FAMILIES[family]())
    attention = source.vision_model.encoder.layers[0].self_attn
    setattr(attention, name, LoRALinear(getattr(attention, name)))
    with pytest.raises(SourceMismatchError, match=rf"layers\.0\.self_attn\.{name} is a LoRALinear"):
        HookedCLIP.from_transformers(source)


@pytest.mark.parametrize("family", FAMILIES)
def test_hook_in_each_family(family: str):
    """A hook on any module of any tower is refused."""
    clip: Any = FAMILIES[family]()
    for _, module in list(clip.visual.named_modules()):
        handle = module.register_forward_hook(lambda module, given, found: None)
        with pytest.raises(SourceMismatchError, match="has a forward hook"):
            tower_parts(clip, family)
        handle.remove()
    assert HookedCLIP.from_open_clip(clip).verified.holds


def test_wrapped_models_name_the_way_out():
    with pytest.raises(UnsupportedTowerError, match=r"model\.module"):
        HookedCLIP.from_open_clip(nn.DataParallel(random_clip()))
    clip: Any = random_clip()
    clip.visual = torch.compile(clip.visual)
    with pytest.raises(UnsupportedTowerError, match=r"model\._orig_mod"):
        HookedCLIP.from_open_clip(clip)
    assert HookedCLIP.from_open_clip(torch.compile(random_clip())).verified.holds  # Its tower is the plain one.


def test_tower_of_another_package():
    class VisionTransformer(nn.Module):
        __module__ = "clip.model"

    holder = nn.Module()
    holder.visual = VisionTransformer()
    with pytest.raises(UnsupportedTowerError, match=r"VisionTransformer of clip\.model.*'openai'"):
        HookedCLIP.from_open_clip(holder)
