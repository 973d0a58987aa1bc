"""The command that explains: a page, sentences and the next command; one line for what it cannot use."""

from __future__ import annotations

import pandas as pd
import pytest

from clip_lens_plugin import explain
from clip_lens_plugin.scenes.dataset import ScenesDataset

pytestmark = pytest.mark.slow

TEXTS = ("--text", "white background", "--text", "blue background")


@pytest.fixture
def picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "<b>scene.png"
    ScenesDataset(1, 0)[0].resize((80, 56)).save(path)
    return path


def test_a_page_and_what_it_says(run, picture, scenes_model):
    result = run("explain", picture, *TEXTS)
    assert result.exit_code == 0, result.output
    page = picture.parent / result.stdout.strip()
    assert page.name == "b-scene-explain.html"
    found = explain(scenes_model, picture, *TEXTS[1::2])
    said = " ".join(result.stderr.split())
    for each in found.sentences():
        assert each in said
    assert "Removed heads write nothing." in said
    assert "next: clip-lens heatmap" in said
    assert "<b>scene" not in page.read_text()


def test_a_store_gives_means_texts_classes_and_the_model(run, picture, scenes_store):
    (picture.parent / "words.txt").write_text("white background\na circle\na red shape\n")
    result = run("explain", picture, "--means", scenes_store, "--texts", "words.txt", "--out", "why.csv")
    assert result.exit_code == 0, result.output
    assert "their mean over 64 images, the same at every token" in result.stderr
    assert " background” (" in result.stderr
    table = pd.read_csv(picture.parent / "why.csv")
    gaps = table.groupby("table")["gap"].sum()
    assert gaps["heads"] == pytest.approx(gaps["patches"], abs=1e-5)


def test_of_more_texts_the_two_nearest_are_compared(run, picture):
    result = run("explain", picture, *TEXTS, "--text", "a green background", "--out", "why.parquet")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("rather than") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "a dog"], "give two, or more"),
        ([], "--means STORE, a store with classes"),
        ([*TEXTS, "--out", "why.eps"], "must end in one of"),
        ([*TEXTS, "--texts", "scenes"], "give --means as well"),
        ([*TEXTS, "--means", "nowhere"], "no folder nowhere"),
        (["--text", "a dog", "--text", "a dog"], "are the same"),
    ],
)
def test_what_cannot_be_used_ends_in_one_line(refused, picture, arguments, message):
    assert message in refused("explain", picture, *arguments)
    assert [each.name for each in picture.parent.iterdir()] == [picture.name]
