"""A bridge whose model computes something else than its weights and its class say is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformer_lens.model_bridge import TransformerBridge

from clip_lens_plugin import as_hooked_clip, decompose
from clip_lens_plugin.adapters.checks.structure import SourceMismatchError
from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from tests.adapters.changes import LoRALinear
from tests.bridge.conftest import KINDS, Booted, boot
from tests.conftest import random_images

pytestmark = pytest.mark.slow


def adapt(vision: Any) -> None:
    attention = vision.encoder.layers[1].self_attn
    attention.q_proj = LoRALinear(attention.q_proj)


def widen(vision: Any) -> None:
    vision.encoder.layers[0].mlp.extra = nn.Linear(2, 2)


def listen(vision: Any) -> None:
    vision.encoder.layers[2].register_forward_hook(lambda module, args, output: output)


def replace(vision: Any) -> None:
    vision.embeddings.forward = lambda *args, **kwargs: torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (adapt, r"layers.1.self_attn.q_proj is of tests.*LoRALinear, not torch.*Linear.*merge_and_unload"),
        (widen, r"layers.0.mlp has other parts than a \w+MLP: \['extra'\]"),
        (listen, r"layers.2 has a forward hook"),
        (replace, r"embeddings has a forward of its own"),
    ],
)
@pytest.mark.parametrize("kind", ["CLIPModel", "Siglip2Model"])
def test_a_changed_model_is_not_booted(kind: str, change: Callable[[Any], None], message: str, tmp_path):
    plain = KINDS[kind]()
    plain.save_pretrained(tmp_path)
    plain.config.architectures = [kind]
    change(plain.vision_model)
    with pytest.raises(SourceMismatchError, match=message):
        TransformerBridge.boot_transformers(str(tmp_path), hf_model=plain, device="cpu")


def test_a_model_is_held_by_one_bridge(booted: Booted):
    with pytest.raises(UnsupportedTowerError, match=r"held by another bridge.*copy.deepcopy\(bridge\)"):
        TransformerBridge.boot_transformers(
            str(booted.bridge.cfg.model_name), hf_model=booted.bridge.original_model, device="cpu"
        )


class Wrapper(nn.Module):
    """Stands in front of a model as an adapter's wrapper does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name) if name == "model" else getattr(super().__getattr__("model"), name)


def test_a_wrapper_is_not_booted(tmp_path):
    plain = KINDS["SiglipModel"]()
    plain.save_pretrained(tmp_path)
    plain.config.architectures = ["SiglipModel"]
    with pytest.raises(UnsupportedTowerError, match=r"supported in a bridge, got Wrapper.*merge_and_unload"):
        TransformerBridge.boot_transformers(str(tmp_path), hf_model=Wrapper(plain), device="cpu")


def test_changes_after_booting_are_seen(tmp_path):
    bridge = boot(tmp_path / "model", KINDS["CLIPModel"]())
    hooked = as_hooked_clip(bridge)
    images = random_images(hooked)
    with torch.no_grad():
        _, cache = bridge.run_with_cache(images)
    mlp = bridge.blocks[1].mlp
    for hooked_module in (mlp, mlp.original_component):
        handle = hooked_module.register_forward_hook(lambda module, args, output: 2 * output)
        for refused in (lambda: as_hooked_clip(bridge), lambda: decompose(bridge, cache)):
            with pytest.raises(SourceMismatchError, match=r"layers.1.mlp has a forward hook"):
                refused()
        handle.remove()
    out, source = mlp.out, mlp.out.original_component
    out._modules["_original_component"] = LoRALinear(source)
    with pytest.raises(SourceMismatchError, match=r"layers.1.mlp.fc2 is of tests"):
        as_hooked_clip(bridge)
    out._modules["_original_component"] = source
    assert as_hooked_clip(bridge) is hooked
    assert decompose(bridge, cache).completeness_error() < 1e-5


def test_weights_that_are_elsewhere_are_refused(tmp_path):
    bridge = boot(tmp_path / "model", KINDS["CLIPModel"]())
    bridge.original_model.to("meta")
    with pytest.raises(ValueError, match="weights are not in memory"):
        as_hooked_clip(bridge)
