"""What ``textspan`` writes for a store and for a data set, and what ends it in one line."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from clip_lens_plugin import HookedCLIP, TextPool, text_span
from clip_lens_plugin.collection import collect
from clip_lens_plugin.scenes.dataset import ScenesDataset
from tests.conftest import random_clip

pytestmark = pytest.mark.slow


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "texts.txt").write_text("a red circle\na [blue] square\na navy background\nfour stars\n")
    return tmp_path / "texts.txt"


def test_a_collection_gives_the_tables_of_text_span(tmp_path, run, scenes_store, opened, texts):
    out = tmp_path / "out"
    options = ("--texts", texts, "--directions", 3, "--heads", "all")
    result = run("textspan", scenes_store, "--out", out, *options)
    assert result.exit_code == 0, result.stderr
    files = ["text_span.parquet", "text_span.csv", "explained_variance.png"]
    assert result.stdout.splitlines() == [str(out / name) for name in files]
    table = pd.read_parquet(out / "text_span.parquet")
    own = text_span(opened.model, opened.moments, TextPool.from_file(texts), 3, "all").to_dataframe()
    pd.testing.assert_frame_equal(table, own)
    pd.testing.assert_frame_equal(pd.read_csv(out / "text_span.csv"), own)
    assert "a [blue] square" in result.stderr
    assert Image.open(out / "explained_variance.png").size[0] > 400
    assert result.stderr.splitlines()[-1] == f"next: clip-lens ablate {scenes_store}"


def test_a_data_set_is_collected_once(tmp_path, run, texts, monkeypatch):
    arguments = ("textspan", "--out", tmp_path / "out", "--limit", 20, "--texts", texts, "--format", "svg")
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "explained_variance.svg").is_file()
    last = f"next: in Python, ContributionStore.open('{tmp_path}/out/collected') has every number of it"
    assert result.stderr.splitlines()[-1] == last
    first = (tmp_path / "out" / "text_span.csv").read_text()
    monkeypatch.setattr(ScenesDataset, "__getitem__", lambda self, position: pytest.fail("read again"))
    assert run(*arguments).exit_code == 0
    assert (tmp_path / "out" / "text_span.csv").read_text() == first


def test_other_settings_do_not_reuse_a_collection(tmp_path, run, refused, texts):
    arguments = ("textspan", "--out", tmp_path / "out", "--texts", texts)
    assert run(*arguments, "--limit", 8).exit_code == 0
    assert "was begun otherwise" in refused(*arguments, "--limit", 9)


def test_mistakes_are_one_line_and_exit_code_2(tmp_path, refused, scenes_store, texts):
    out = ("--out", tmp_path / "out")
    assert "There is no folder" in refused("textspan", tmp_path / "missing", *out)
    assert "no pool of that name" in refused("textspan", scenes_store, *out, "--texts", "nouns")
    assert "is collected already" in refused("textspan", scenes_store, *out, "--limit", 3)
    assert "is a file, expected a folder" in refused("textspan", scenes_store, "--out", texts)


class Blank(Dataset):
    """Three black images of the random CLIP's size."""

    def __len__(self):
        return 3

    def __getitem__(self, position):
        return torch.zeros(3, 32, 32)


def test_a_collection_of_another_model_is_refused(tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    collect(HookedCLIP.from_open_clip(random_clip()), Blank(), tmp_path / "store", progress=False)
    assert "one that was called 'open_clip model'. Give that: --model NAME" in refused("textspan", "store")
    assert "was collected with another model" in refused("textspan", tmp_path / "store", "--model", "scenes")
