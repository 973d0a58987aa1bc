"""A digest of what a forward reads: another for every change of behaviour, the same for the same behaviour."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from clip_lens_plugin.adapters.checks.behaviour import (
    behaviour_digest,
    described,
    has_forward_hooks,
    settings_digest,
    word_sum,
)
from tests.adapters.conversion import clip_model, siglip_model
from tests.conftest import TEXT_CFG, random_clip
from tests.support.families import EVA02, FAMILIES, PE, eva

pytestmark = pytest.mark.slow


def text_digest(changes: dict | None = None, **root) -> str:
    """Of the text tower of the same weights, with changes of its config and of the model's own attributes."""
    clip = random_clip(changes)
    for name, value in root.items():
        setattr(clip, name, value)
    return behaviour_digest(clip, without="visual")


def _set(module: nn.Module, name: str, value) -> None:
    setattr(module, name, value)


def block(clip):
    return clip.transformer.resblocks[0]


TEXT_CHANGES = {
    "activation": lambda clip: _set(block(clip).mlp, "gelu", nn.SiLU()),
    "approximation": lambda clip: _set(block(clip).mlp.gelu, "approximate", "tanh"),
    "heads": lambda clip: _set(block(clip).attn, "num_heads", 4),
    "pooling": lambda clip: _set(clip, "text_pool_type", "first"),
    "end of text": lambda clip: _set(clip, "text_eos_id", 7),
    "mask": lambda clip: _set(clip, "attn_mask", torch.zeros_like(clip.attn_mask)),
    "no mask": lambda clip: _set(clip, "attn_mask", None),
    "epsilon": lambda clip: _set(clip.ln_final, "eps", 1e-6),
    "context length": lambda clip: _set(clip, "context_length", 76),
    "weight": lambda clip: clip.token_embedding.weight.data[5, 3].add_(1e-6),
    "forward": lambda clip: _set(clip.ln_final, "forward", lambda x: x),
    "encode_text": lambda clip: _set(clip, "encode_text", lambda tokens, normalize: tokens),
    "class": lambda clip: _set(clip.ln_final, "__class__", type("LayerNorm", (nn.LayerNorm,), {})),
    "child": lambda clip: block(clip).mlp.append(nn.Identity()),
    "function": lambda clip: _set(block(clip), "act", torch.tanh),
    "dtype": lambda clip: clip.double(),
}


@pytest.mark.parametrize("change", TEXT_CHANGES)
def test_every_change_of_an_open_clip_text_tower_counts(change):
    clip = random_clip()
    before, image = behaviour_digest(clip, without="visual"), behaviour_digest(clip.visual)
    TEXT_CHANGES[change](clip)
    assert behaviour_digest(clip, without="visual") != before
    assert change == "dtype" or behaviour_digest(clip.visual) == image


@pytest.mark.parametrize(
    ("name", "value"),
    [("layer_norm_eps", 1e-6), ("eos_token_id", 3), ("pad_token_id", 3), ("hidden_act", "silu")],
)
def test_hugging_face_configs_count(name, value):
    model = clip_model(random_clip())
    before = behaviour_digest(model.text_model)
    setattr(model.text_model.config, name, value)
    assert behaviour_digest(model.text_model) != before


IMAGE_CHANGES = {
    "epsilon": ("plain", lambda visual: _set(visual.ln_post, "eps", 1e-6)),
    "pooling": ("plain", lambda visual: _set(visual, "pool_type", "avg")),
    "layer scale": ("custom", lambda visual: visual.transformer.resblocks[0].ls_1.gamma.data.mul_(2)),
    "cosine attention": ("custom", lambda visual: _set(visual.transformer.resblocks[0].attn, "scale", 0.5)),
    "timm heads": ("SigLIP", lambda visual: _set(visual.trunk.blocks[0].attn, "num_heads", 2)),
    "timm scale": ("SigLIP", lambda visual: _set(visual.trunk.blocks[0].attn, "scale", 0.5)),
    "timm pool": ("SigLIP", lambda visual: _set(visual.trunk.attn_pool, "num_heads", 2)),
    "rotation": ("PE", lambda visual: _set(visual.trunk.rope, "temperature", 100.0)),
}


@pytest.mark.parametrize("change", IMAGE_CHANGES)
def test_every_change_of_an_image_tower_counts(change):
    family, make = IMAGE_CHANGES[change]
    clip = FAMILIES[family]()
    before = behaviour_digest(clip.visual)
    make(clip.visual)
    assert behaviour_digest(clip.visual) != before


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_model_runs_on_and_has_run_does_not_count(family):
    clip = FAMILIES[family]()
    before = behaviour_digest(clip)
    copied = copy.deepcopy(clip)
    assert behaviour_digest(copied) == before
    copied.train()
    copied.visual.requires_grad_(False)
    copied.visual.register_forward_hook(lambda module, args, output: None)
    assert behaviour_digest(copied) == before
    with torch.no_grad():
        clip.encode_image(torch.randn(2, 3, 32, 32))
    assert behaviour_digest(clip) == before


@pytest.mark.parametrize("make", [clip_model, partial(siglip_model, second=False), partial(siglip_model, second=True)])
def test_a_hugging_face_model_that_was_saved_and_loaded_is_the_same(make, tmp_path):
    model = make(random_clip() if make is clip_model else FAMILIES["SigLIP"]())
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert behaviour_digest(loaded.text_model) == behaviour_digest(model.text_model)
    assert behaviour_digest(loaded.vision_model) == behaviour_digest(model.vision_model)


def test_another_process_with_other_threads_gives_the_same():
    """Rotary tables are computed anew there, sets are ordered otherwise, and everything has another address."""
    program = (
        "import torch; torch.set_num_threads(2)\n"
        "from clip_lens_plugin.adapters.checks.behaviour import behaviour_digest\n"
        "from tests.conftest import random_clip\n"
        "from tests.support.families import PE, EVA02, eva\n"
        "print([behaviour_digest(random_clip()), behaviour_digest(eva(**PE)), behaviour_digest(eva(**EVA02))])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        check=True,
    ).stdout
    mine = [behaviour_digest(random_clip()), behaviour_digest(eva(**PE)), behaviour_digest(eva(**EVA02))]
    assert printed.strip().splitlines()[-1] == str(mine)


def test_functions_are_known_by_their_code_where_they_have_no_name():
    def scaled(by):
        return lambda x: x * by

    assert described(scaled(2)) == described(scaled(2)) != described(scaled(3))
    assert described(lambda x: x + 1) != described(lambda x: x - 1)
    assert described(torch.tanh) != described(torch.sin)
    assert described(partial(torch.add, alpha=2)) != described(partial(torch.add, alpha=3))


def test_kinds_of_values_are_told_apart():
    values = [1, 1.0, True, "1", None, [1], {1}, {1: 1}, torch.float32, torch.tensor([1]), torch.tensor([1.0]), b"1"]
    descriptions = [described(value) for value in values]
    assert len(set(descriptions)) == len(values)
    assert described({"b", "a"}) == described({"a", "b"})
    assert described({"b": 1, "a": 2}) == described({"a": 2, "b": 1})


def test_values_that_hold_themselves_end():
    held: list = [1]
    held.append(held)
    assert described(held) == described(held)
    module = nn.Linear(2, 2)
    module.parents = [module]
    assert settings_digest(module) != settings_digest(nn.Linear(2, 2))


def test_tensors_outside_the_state_count_where_they_are_exact():
    """A mask's values do; a table of sines, which is computed anew with other last bits, counts by its shape."""
    module = nn.Module()
    module.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1), persistent=False)
    module.register_buffer("table", torch.linspace(0, 1, 7).sin(), persistent=False)
    before = settings_digest(module)
    module.table = torch.nextafter(module.table, torch.tensor(9.0))
    assert settings_digest(module) == before
    module.table = torch.linspace(0, 1, 8).sin()
    assert settings_digest(module) != before
    before = settings_digest(module)
    module.mask[0, 1] = 0
    assert settings_digest(module) != before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cut", [slice(None), slice(1, None), slice(0, 7)])
def test_the_least_change_of_one_value_changes_the_sum_of_words(dtype, cut):
    torch.manual_seed(0)
    weight = torch.randn(31, 33).to(dtype)[cut, cut]
    changed = weight.clone()
    changed[3, 2] = torch.nextafter(changed[3, 2], torch.tensor(9.0, dtype=dtype))
    assert word_sum(weight.clone()) == word_sum(weight.T.contiguous().T.contiguous()) != word_sum(changed)
    assert word_sum(weight) == word_sum(weight)
    assert int(word_sum(torch.tensor([1, 2, 3]))) == 6


def test_hooks_of_torch_are_seen():
    clip = random_clip()
    clip.visual.register_forward_hook(lambda module, args, output: None)
    assert not has_forward_hooks(clip, without="visual")
    handle = clip.transformer.register_forward_pre_hook(lambda module, args: None)
    assert has_forward_hooks(clip, without="visual")
    handle.remove()
    assert not has_forward_hooks(clip, without="visual")


def test_context_length_and_width_count():
    assert TEXT_CFG["heads"] == 2
    assert len({text_digest(), text_digest(text_pool_type="last"), text_digest({"quick_gelu": True})}) == 3
