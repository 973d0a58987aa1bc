"""A small store of drawn scenes, and how commands are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.cli import SCENES_SEED, app
from clip_lens_plugin.collection import ContributionStore, collect
from clip_lens_plugin.scenes.dataset import ScenesDataset

N = 64


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("CLIP_LENS_CACHE", "")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="session")
def scenes_model() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu")


@pytest.fixture(scope="session")
def scenes_store(tmp_path_factory, scenes_model) -> Path:
    """Contributions of 64 drawn scenes, labelled with their background."""
    folder = tmp_path_factory.mktemp("stores") / "scenes-store"
    collect(scenes_model, ScenesDataset(N, SCENES_SEED, "background"), folder, "contributions", progress=False)
    return folder


@pytest.fixture
def opened(scenes_store, scenes_model) -> ContributionStore:
    return ContributionStore.open(scenes_store, scenes_model)


@pytest.fixture
def run():
    def invoke(*arguments):
        return CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"])

    return invoke


@pytest.fixture
def refused(run):
    """Calls a command that must end in one line and exit code 2; returns the line."""

    def invoke(*arguments) -> str:
        result = run(*arguments)
        assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("clip-lens: ")
        return result.stderr

    return invoke
