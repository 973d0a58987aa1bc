"""What a run of a model gives, and what it cannot be asked for; what tools read of its config."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.model.hooks.run_arguments import TextArgumentError
from tests.conftest import random_images
from tests.support.families import FAMILIES


def test_a_run_stops_before_a_layer_and_runs_nothing_after_it(model: HookedCLIP) -> None:
    images = random_images(model)
    cache = model.run_with_cache(images)[1]
    streams = [cache["resid_pre", l] for l in range(3)] + [cache["resid_post", 2]]
    for layer, stream in enumerate(streams):
        heard: list[str] = []
        hooks: list[Any] = [(lambda name: True, lambda x, hook, heard=heard: heard.append(hook.name))]
        found = model.run_with_hooks(images, fwd_hooks=hooks, stop_at_layer=layer)
        torch.testing.assert_close(found, stream, rtol=1e-10, atol=1e-10)
        for names in (heard, model.run_with_cache(images, stop_at_layer=layer)[1]):
            assert {int(name.split(".")[1]) for name in names if name.startswith("blocks")} == set(range(layer))
            assert not any(name.startswith("ln_final") for name in names)
    torch.testing.assert_close(model(images, stop_at_layer=-1), streams[2], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model(images, stop_at_layer=-3), streams[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("given", "error"), [(4, IndexError), (-4, IndexError), (True, ValueError)])
def test_a_layer_that_there_is_not_is_refused(model: HookedCLIP, given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="stop_at_layer must be"):
        model(random_images(model), stop_at_layer=given)


def test_a_run_gives_what_it_is_asked_for(model: HookedCLIP) -> None:
    images = random_images(model)
    assert torch.equal(model(images, return_type="embedding"), model(images))
    assert model(images, return_type=None) is None
    heard = []
    hooks = [("ln_final.hook_scale", lambda x, hook: heard.append(x.shape))]
    assert model.run_with_hooks(images, fwd_hooks=hooks, return_type=None) is None
    assert heard == [(3, 17, 1)]
    with pytest.raises(AttributeError, match="No text labels are set"):
        model(images, return_type="logits")


@pytest.mark.parametrize("given", ["loss", "both", "predictions", "logits_and_cache", "Logits"])
def test_another_output_is_refused(model: HookedCLIP, given: Any) -> None:
    with pytest.raises(ValueError, match=rf"do not support return_type={given!r}.*'embedding', 'logits'.*or None"):
        model.run_with_cache(random_images(model), return_type=given)


@pytest.mark.parametrize("name", ["prepend_bos", "padding_side", "start_at_layer", "attention_mask", "loss_per_token"])
def test_arguments_for_text_are_refused_in_one_sentence(model: HookedCLIP, name: str) -> None:
    images = random_images(model)
    for call in (model, model.run_with_cache, model.run_with_hooks):
        with pytest.raises(TextArgumentError, match=rf"^{name} is for language models: .*leave it out \(.*\)\.$"):
            call(images, **{name: True})
    with pytest.raises(TypeError, match="not 'stop_at_leyer'"):
        model(images, stop_at_leyer=1)


# ---------------------------------------------------------------------- config


def test_the_config_says_what_tools_read(model: HookedCLIP) -> None:
    cfg = model.cfg
    assert (cfg.d_vocab, cfg.d_vocab_out) == (0, 0)
    model.set_labels(["a", "b"], torch.eye(2, 24, dtype=torch.float64))
    assert (cfg.d_vocab, cfg.d_vocab_out, cfg.to_dict()["d_vocab_out"]) == (2, 2, 2)
    counted = sum(getattr(model, name).numel() for name in ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"))
    assert cfg.n_params == counted
    q, k = (model.run_with_cache(random_images(model))[1][each, 0] for each in "qk")
    scores = torch.einsum("bqhk,bshk->bhqs", q, k) / cfg.attn_scale
    torch.testing.assert_close(scores, model.run_with_cache(random_images(model))[1]["attn_scores", 0])
    assert cfg.to_dict()["model_name"] == "open_clip model"
    assert (cfg.positional_embedding_type, cfg.attention_dir, cfg.gated_mlp) == ("standard", "bidirectional", False)
    assert cfg.original_architecture == "CLIP"


def test_the_config_follows_the_tower() -> None:
    eva = HookedCLIP.from_open_clip(FAMILIES["EVA-02"]())
    assert (eva.cfg.positional_embedding_type, eva.cfg.gated_mlp) == ("rotary", True)
    weights = ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_out", "W_gate")
    assert eva.cfg.n_params == sum(getattr(eva, name).numel() for name in weights)
    assert HookedCLIP.from_open_clip(FAMILIES["plain"]()).cfg.eps == 1e-5
    assert eva.cfg.eps == eva.ln_final.norm.module.eps == 1e-6
