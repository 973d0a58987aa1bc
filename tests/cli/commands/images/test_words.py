"""The command that says images in words: a table, a page or a file; one line for what it cannot use."""

from __future__ import annotations

import pandas as pd
import pytest

from clip_lens_plugin import TextPool, sparse_text
from clip_lens_plugin.scenes.dataset import ScenesDataset

pytestmark = pytest.mark.slow


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for position, picture in enumerate(ScenesDataset(3, 5)):
        picture.save(folder / f"<b>{position}.png")
    return folder


def test_a_folder_is_its_own_mean(run, pictures, scenes_model):
    result = run("words", pictures, "--texts", "scenes", "--out", "words.csv")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(pictures.parent / result.stdout.strip())
    found = sparse_text(scenes_model, pictures, TextPool.scenes())
    pd.testing.assert_frame_equal(table, found.to_dataframe(), check_exact=False, atol=1e-5)
    said = " ".join(result.stderr.split())
    assert all(found.words(row)[0][0] in said for row in range(3))
    assert "488 texts, centred by their own mean; penalty 0.25; centred by the mean of these 3 images." in said
    assert "next: clip-lens report" in said


def test_one_picture_and_the_mean_of_a_store(run, pictures, scenes_store):
    (pictures.parent / "own.txt").write_text("white background\na circle\na red shape\n")
    picture = pictures / "<b>1.png"
    result = run("words", picture, "--mean", scenes_store, "--texts", "own.txt", "--k", 2)
    assert result.exit_code == 0, result.output
    page = pictures.parent / result.stdout.strip()
    assert page.name == "b-1-words.html"
    assert "next: clip-lens heatmap" in result.stderr
    assert "2 words each; centred by means of 64 images" in page.read_text()
    assert "<b>1" not in page.read_text()


def test_a_store_has_its_own_mean_and_model(run, pictures, scenes_store):
    result = run("words", scenes_store, "--penalty", 0.4, "--out", "words.parquet")
    assert result.exit_code == 0, result.output
    assert "and 44 more images" in result.stderr
    assert pd.read_parquet("words.parquet")["row"].nunique() == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos/<b>1.png"], "one image does not say it: give --mean STORE"),
        (["photos", "--penalty", 0], "--penalty must be a number greater than 0"),
        (["photos", "--penalty", 0.1, "--k", 2], "Give --penalty or a number of words, --k, not both"),
        (["photos", "--out", "words.eps"], "must end in one of"),
        (["photos", "--texts", "nowhere.txt"], "There is no text file nowhere.txt"),
        (["nowhere"], "nowhere"),
        (["photos", "--mean", "nowhere"], "nowhere"),
    ],
)
def test_what_it_cannot_use(refused, pictures, arguments, message):
    assert message in refused("words", *arguments)


def test_a_limit_is_for_folders(refused, run, pictures, scenes_store):
    assert "--limit is for a folder" in refused("words", scenes_store, "--limit", 2)
    result = run("words", pictures, "--limit", 2, "--out", "two.csv")
    assert "the mean of these 2 images" in " ".join(result.stderr.split())
