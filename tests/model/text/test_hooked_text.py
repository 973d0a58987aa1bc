"""The wrapped text tower against the source's own, and as a TransformerLens model."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jaxtyping
import open_clip
import pytest
import torch
import transformers
from open_clip.hf_model import HFTextEncoder
from torch import nn
from transformer_lens import ActivationCache

from clip_lens_plugin import HookedCLIP, HookedText, decompose, patch_text_map
from clip_lens_plugin.adapters.checks.structure import SourceMismatchError
from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from clip_lens_plugin.model.property_errors import NotAvailableError
from tests.conftest import random_clip
from tests.support.text_families import CONTEXT, TEXT_FAMILIES, own, some_ids

pytestmark = pytest.mark.slow


def source_of(clip: Any, ids: torch.Tensor) -> torch.Tensor:
    """What users of the source would call."""
    if not hasattr(clip, "_original"):
        return clip.encode_text(ids)
    found = clip._original[0].get_text_features(input_ids=ids)
    return found if isinstance(found, torch.Tensor) else found.pooler_output


@pytest.fixture(params=TEXT_FAMILIES)
def clip(request: pytest.FixtureRequest) -> Any:
    return TEXT_FAMILIES[request.param]().double()


@torch.no_grad()
def test_it_gives_the_sources_own_embeddings(clip):
    text, ids = HookedText(clip), some_ids()
    torch.testing.assert_close(text(ids), source_of(clip, ids), rtol=1e-12, atol=1e-13)
    single = HookedText(copy.deepcopy(clip).float())
    torch.testing.assert_close(single(ids).double(), text(ids), rtol=1e-4, atol=1e-4)
    assert single.verified is not None
    assert single.verified.holds
    assert single.verified.what == "text"


@torch.no_grad()
def test_every_hook_is_live(clip):
    text, ids = HookedText(clip), some_ids(3)
    plain = text(ids)
    _, cache = text.run_with_cache(ids)
    assert isinstance(cache, ActivationCache)

    def other(tensor: torch.Tensor, hook: Any) -> torch.Tensor:
        if hook.name == "hook_position":
            return (tensor + 1) % text.cfg.n_ctx
        return (
            tensor * torch.linspace(0.3, 0.9, tensor.shape[-1], dtype=tensor.dtype)
            if tensor.shape[-1] > 1
            else (tensor * 1.5)
        )

    dead = []
    for name in text.hook_dict:
        changed = text.run_with_hooks(ids, fwd_hooks=[(name, other)])
        if not float((changed - plain).norm() / plain.norm()) > 1e-6:
            dead.append(name)
    assert dead == []


@torch.no_grad()
def test_a_cache_has_what_hooks_changed(clip):
    text, ids = HookedText(clip), some_ids(3)

    def half(z: torch.Tensor, hook: Any) -> torch.Tensor:
        z = z.clone()
        z[:, :, 1] *= 0.5
        return z

    with text.hooks(fwd_hooks=[("blocks.1.attn.hook_z", half)]):
        embedding, cache = text.run_with_cache(ids)
        run = text.decompose(ids)
    cached = decompose(text, cache)
    torch.testing.assert_close(cached.embedding, embedding)
    assert cached.completeness_error() < 1e-12
    torch.testing.assert_close(cached.heads, run.heads)
    assert not torch.allclose(cached.heads, text.decompose(ids).heads)


def test_it_is_no_submodule():
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))
    before = sum(each.numel() for each in model.parameters()), list(model.state_dict()), set(model.hook_dict)
    text = model.text
    assert text is model.text
    assert (sum(each.numel() for each in model.parameters()), list(model.state_dict()), set(model.hook_dict)) == before
    theirs = [each for name, each in model.clip.named_parameters() if not name.startswith(("visual", "logit"))]
    assert {id(each) for each in text.parameters()} == {id(each) for each in theirs}
    text.add_hook("blocks.0.hook_mlp_out", lambda tensor, hook: tensor * 0)
    model.reset_hooks()
    assert text.hook_dict["blocks.0.hook_mlp_out"].has_hooks()
    text.reset_hooks()
    assert not text.hook_dict["blocks.0.hook_mlp_out"].has_hooks()


@torch.no_grad()
def test_it_moves_and_is_copied_with_the_model(tokenizer):
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64), tokenizer=tokenizer)
    wide = model.text("a dog")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), pickle.loads(pickle.dumps(model.text))):
        own_text = twin.text if isinstance(twin, HookedCLIP) else twin
        assert own_text is not model.text
        torch.testing.assert_close(own_text("a dog"), wide)
        ours = {id(each) for each in model.parameters()}
        assert not ours & {id(each) for each in own_text.parameters()}
    twin = copy.deepcopy(model)
    assert {id(each) for each in twin.text.parameters()} < {id(each) for each in twin.parameters()}
    model.to(torch.float32)
    assert model.text.cfg.dtype == model.text("a dog").dtype == torch.float32
    torch.testing.assert_close(model.text("a dog").double(), wide, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.text("a dog"), model.encode_text("a dog", normalize=False))


def test_towers_of_others_are_refused_by_name_and_images_go_on():
    clip: Any = own()
    config = transformers.RobertaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    clip.text = HFTextEncoder.__new__(HFTextEncoder)
    nn.Module.__init__(clip.text)
    clip.text.transformer = transformers.RobertaModel(config)
    model = HookedCLIP.from_open_clip(clip)
    with pytest.raises(UnsupportedTowerError, match="RobertaModel"):
        _ = model.text
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 40)


def test_an_image_tower_alone_has_none():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPVisionConfig(**sizes, image_size=32, patch_size=16)
    model = HookedCLIP.from_transformers(transformers.CLIPVisionModelWithProjection(config).eval())
    assert not hasattr(model, "text")
    with pytest.raises(NotAvailableError, match="image tower alone"):
        _ = model.text


def _replaced(clip: Any) -> None:
    linear = clip.transformer.resblocks[0].mlp.c_fc
    clip.transformer.resblocks[0].mlp.c_fc = nn.Sequential(linear)


def _hooked(clip: Any) -> None:
    clip.ln_final.register_forward_hook(lambda module, given, found: found * 2)


def _own_method(clip: Any) -> None:
    clip.encode_text = lambda tokens, normalize=False: torch.ones(len(tokens), 24)


@pytest.mark.parametrize("change", [_replaced, _hooked, _own_method])
def test_another_source_than_the_weights_say_is_refused(change: Callable[[Any], None]):
    clip = random_clip()
    change(clip)
    with pytest.raises(SourceMismatchError):
        HookedText(clip)
    clip = random_clip()
    text = HookedText(clip)
    change(clip)
    with pytest.raises(SourceMismatchError):
        text(torch.zeros(1, 77, dtype=torch.long))


def test_verify_names_where_the_streams_part(monkeypatch):
    text = HookedText(random_clip())
    before = type(text._parts.embed).__call__
    monkeypatch.setattr(type(text._parts.embed), "__call__", lambda self, ids: (before(self, ids)[0] * 1.1, None))
    with pytest.raises(SourceMismatchError, match="hook_embed"):
        text.verify()


def test_verify_covers_it_once_it_is_used(tokenizer):
    model = HookedCLIP.from_open_clip(random_clip(), tokenizer=tokenizer)
    assert model.verify().text is None
    assert model.text.verify(["a dog", "a cat"]).n_images == 2
    found = model.verify()
    assert found.text is not None
    assert found.text.holds
    assert type(found).from_json(found.to_json()) == found
    with torch.no_grad():
        model.clip.ln_final.weight.mul_(1.5)  # The same for both: the source is followed.
    assert model.verify().text is not None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "got none"),
        (["a", 3], "got 3 of type int"),
        (5, "got 5"),
        (None, "got None"),
        (torch.zeros(2, 5, dtype=torch.long), rf"\[texts, {CONTEXT}\]"),
        (torch.zeros(2, CONTEXT), "float32"),
        (torch.full((1, CONTEXT), 100), "from 0 to 99, got 100"),
        (torch.full((1, CONTEXT), -1), "got -1"),
        ("a dog", "without a tokenizer"),
    ],
)
def test_what_is_no_text_is_refused(monkeypatch, given, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of the tests
    with pytest.raises(ValueError, match=message):
        HookedText(own())(given)


def test_an_analysis_of_images_refuses_it():
    with pytest.raises(TypeError, match="model of images, got the text tower of open_clip model"):
        patch_text_map(HookedText(own()), torch.zeros(1, 3, 32, 32), torch.zeros(1, 40))  # type: ignore[arg-type]


def test_a_run_stops_where_it_is_asked_to():
    text, ids = HookedText(own().double()), some_ids(2)
    _, cache = text.run_with_cache(ids)
    torch.testing.assert_close(text(ids, stop_at_layer=1), cache["blocks.1.hook_resid_pre"])
    torch.testing.assert_close(text(ids, stop_at_layer=3), cache["blocks.2.hook_resid_post"])
    assert text(ids, return_type=None) is None
    with pytest.raises(ValueError, match="return_type='logits'"):
        text(ids, return_type="logits")
    with pytest.raises(IndexError, match="-3 to 3"):
        text(ids, stop_at_layer=4)


def test_tokens_and_weights_have_transformer_lens_names(tokenizer):
    text = HookedText(random_clip(), tokenizer)
    assert text.to_str_tokens("a hippopotamus")[:6] == ["[start]", "a", "hippo", "potam", "us", "[end]"]
    assert text.to_tokens(["a", "b"]).shape == (2, 77)
    assert text.W_E.shape == (49408, 32)
    assert text.W_Q.shape == (1, 2, 32, 16)
    assert not hasattr(text, "W_U")
    assert isinstance(open_clip.get_tokenizer("ViT-B-32")("a"), torch.Tensor)
