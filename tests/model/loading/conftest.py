"""A small model under a name of open_clip's list, and how its checkpoints are loaded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.model.loading import LoadingWarning, ModelNotFoundError
from tests.model.loading.test_by_name import CONFIG


@pytest.fixture
def tiny_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that open_clip's registry knows for the time of a test; it has no tags."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-test", CONFIG)
    return "tiny-test"


@pytest.fixture
def tiny_b32(monkeypatch: pytest.MonkeyPatch) -> str:
    """ViT-B-32 with its tags, made small."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", CONFIG)
    return "ViT-B-32"


@pytest.fixture
def load_noting() -> Callable[..., tuple[HookedCLIP, list[str]]]:
    """Loads on the CPU; returns the model and what was said."""

    def load(name: str, pretrained: str | Path | None = None, **options) -> tuple[HookedCLIP, list[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = HookedCLIP.from_pretrained(name, pretrained, device="cpu", **options)
        assert all(issubclass(each.category, LoadingWarning) for each in caught)
        return model, [str(each.message) for each in caught]

    return load


@pytest.fixture
def refused() -> Callable[..., str]:
    """Loads what must not load; returns the message, one line that does not advise to run code."""

    def load(name: str, pretrained: str | Path | None = None, **options) -> str:
        with pytest.raises(ModelNotFoundError) as caught:
            HookedCLIP.from_pretrained(name, pretrained, device="cpu", **options)
        message = str(caught.value)
        assert "\n" not in message
        assert "weights_only=False" not in message.replace("`", "")
        return message

    return load
