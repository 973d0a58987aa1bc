"""Bridges booted from folders of random weights that the tests save."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import CLIPVisionModelWithProjection, SiglipImageProcessor

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.bridge.clip_bridge import CLIPBridge
from tests.adapters.conversion import clip_model, letters_tokenizer, siglip_model, vision_model
from tests.conftest import random_clip, random_images
from tests.support.families import SIGLIP, vit

KINDS = {
    "CLIPModel": lambda: clip_model(random_clip()),
    "CLIPVisionModelWithProjection": lambda: vision_model(random_clip()),
    "SiglipModel": lambda: siglip_model(vit(**SIGLIP)),
    "Siglip2Model": lambda: siglip_model(vit(**SIGLIP), second=True),
}


@dataclass(frozen=True)
class Booted:
    """A bridge, what it was booted from, and the same weights as a ``HookedCLIP``."""

    bridge: TransformerBridge
    saved: Any
    hooked: HookedCLIP
    images: Tensor


def boot(folder: Path, saved: Any) -> TransformerBridge:
    """A bridge of a saved model; a vision model's class has to be named."""
    saved.save_pretrained(folder)
    named = isinstance(saved, CLIPVisionModelWithProjection)
    asked = partial(TransformerBridge.boot_transformers, model_class=CLIPVisionModelWithProjection) if named else None
    return (asked or TransformerBridge.boot_transformers)(str(folder), device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module", params=list(KINDS))
def booted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Booted:
    saved = KINDS[request.param]()
    bridge = boot(tmp_path_factory.mktemp("bridge") / "model", saved)
    hooked = HookedCLIP.from_transformers(saved)
    return Booted(bridge, saved, hooked, random_images(hooked))


@pytest.fixture(scope="module")
def with_texts(tmp_path_factory: pytest.TempPathFactory) -> TransformerBridge:
    """A bridge whose folder has an image processor and a tokenizer."""
    place = tmp_path_factory.mktemp("with texts")
    letters_tokenizer(place / "tokenizer").save_pretrained(place / "model")
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(place / "model")
    return boot(place / "model", clip_model(random_clip()))


LABELS = ["a dog", "a cat", "the sea", "two boats"]


@dataclass(frozen=True)
class Pair:
    """A bridge and a ``HookedCLIP`` of the same weights in float64, with the same labels and images."""

    bridge: CLIPBridge
    hooked: HookedCLIP
    images: Tensor

    @property
    def pools_by_attention(self) -> bool:
        return self.hooked.cfg.pooling == "attention"

    @property
    def shared(self) -> list[str]:
        """The hook points of both that run unasked."""
        return [name for name in self.hooked.hook_dict if name in self.bridge.hook_dict and "hook_result" not in name]

    def both(self, call: Callable[[Any, Tensor], Any]) -> tuple[Any, Any]:
        """What a call gives on each, hooks that it leaves behind removed."""
        found = []
        for model in (self.bridge, self.hooked):
            with torch.no_grad():
                found.append(call(model, self.images))
            model.reset_hooks()
        return found[0], found[1]


@pytest.fixture(scope="module", params=list(KINDS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    saved = KINDS[request.param]()
    bridge = boot(tmp_path_factory.mktemp("pair") / "model", saved)
    bridge.to(torch.float64, print_details=False)
    hooked = HookedCLIP.from_transformers(saved.double())
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(len(LABELS), hooked.cfg.d_embed, generator=generator, dtype=torch.float64)
    for model in (bridge, hooked):
        model.set_labels(LABELS, torch.nn.functional.normalize(embeddings, dim=-1))
    return Pair(bridge, hooked, random_images(hooked))
