"""The command: what it writes, and one line and exit code 2 for what a user can mend."""

from __future__ import annotations

import html
import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.app.state import State, state_of_link
from clip_lens_plugin.cli import SCENES_SEED, app
from clip_lens_plugin.scenes.accuracy import HELD_OUT_SEED
from tests.conftest import TEXT_CFG, VISION_CFG, random_clip

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("CLIP_LENS_CACHE", "")


@pytest.fixture(scope="module")
def local_model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    config = {"embed_dim": 24, "vision_cfg": VISION_CFG, "text_cfg": TEXT_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    weights = {name: weight.contiguous() for name, weight in random_clip().state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat/1", "cat/2", "cat/3", "dog/1", "dog/2", "dog/3"):
        path = tmp_path / "photographs" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photographs"


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "texts.txt").write_text("a red car\na dog\na house\nmany people\n")
    return tmp_path / "texts.txt"


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_a_folder_of_photographs_becomes_a_report(tmp_path, photographs, local_model, texts):
    (photographs / "cat" / "<img src=x onerror=alert(1)>.png").write_bytes(b"broken")
    out = tmp_path / "out"
    arguments = ("--images", photographs, "--model", local_model, "--texts", texts, "--out", out)
    result = run("report", *arguments, "--device", "cpu")
    assert result.exit_code == 3, result.stderr
    assert result.stdout.strip() == str(out / "report.html")
    assert "Skipped 1 file" in result.stderr
    assert "14% of the samples were skipped, more than 5 %" in result.stderr
    assert not list(out.glob(".collecting-*"))
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page
    assert "<img src=x" not in page
    assert pd.read_parquet(out / "skipped.parquet")["name"].tolist() == ["cat/<img src=x onerror=alert(1)>.png"]
    ablation = pd.read_parquet(out / "ablation.parquet")
    assert set(ablation["question"]) == {"folder"}
    assert set(ablation["classes"]) == {2}
    assert set(pd.read_parquet(out / "text_span.parquet")["text"]) <= set(texts.read_text().splitlines())


def test_folders_that_read_alike_are_named(tmp_path, photographs, local_model, texts):
    (photographs / "cat").rename(photographs / "a_dog")
    (photographs / "dog").rename(photographs / "a dog")
    result = run("report", "--images", photographs, "--model", local_model, "--texts", texts, "--out", tmp_path / "out")
    assert result.exit_code == 2
    warning = " ".join(result.stderr.splitlines()[-1].split())
    assert "'a dog' and 'a_dog' both read 'a dog'" in warning


def collected(folder, model, out, *more):
    result = run("collect", folder, "--model", model, "--what", "contributions", "--out", out, "--device", "cpu", *more)
    assert result.exit_code == 0, result.stderr
    return out


def test_a_collection_becomes_a_report_with_its_pictures_or_with_names(
    tmp_path, photographs, local_model, texts, monkeypatch
):
    store = collected(photographs, local_model, tmp_path / "store", "--dtype", "float32")
    arguments = (store, "--model", local_model, "--texts", texts, "--device", "cpu", "--out")
    assert run("report", "--images", photographs, *arguments[1:], tmp_path / "direct").exit_code == 0
    moved = photographs.rename(photographs.parent / "moved")
    monkeypatch.chdir(tmp_path)
    elsewhere = run("report", *arguments, tmp_path / "named")
    moved.rename(photographs)
    assert elsewhere.exit_code == 0, elsewhere.stderr
    assert "are not in reach, so the page shows names only" in elsewhere.stderr
    named = (tmp_path / "named" / "report.html").read_text(encoding="utf-8")
    assert 'class="cl-thumb ' not in named
    assert "cat/1.png" in named
    assert 'id="heatmaps"' not in named
    given = run("report", *arguments, tmp_path / "given", "--images", photographs)
    assert (given.exit_code, "not in reach" in given.stderr) == (0, False)
    assert 'class="cl-thumb ' in (tmp_path / "given" / "report.html").read_text(encoding="utf-8")
    monkeypatch.chdir(photographs.parent.parent)
    (tmp_path / "themes.txt").write_text("what\ta red car\nwhat\ta dog\nwhat\ta house\nwho\tmany people")
    found = run("report", *arguments, tmp_path / "found", "--roles", "--texts", tmp_path / "themes.txt")
    assert (found.exit_code, "not in reach" in found.stderr) == (0, False), found.stderr
    assert set(pd.read_parquet(tmp_path / "found" / "roles.parquet")["theme"]) <= {"what", "who"}
    explore = ["clip-lens", "explore", str(store), "--model", local_model]
    assert (explore, State("heads", by="role")) in opened_by(tmp_path / "found" / "report.html")
    for name in ("layers", "heads", "text_span", "top_images", "heatmaps"):
        direct = pd.read_parquet(tmp_path / "direct" / f"{name}.parquet")
        for out in ("given", "found"):
            pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / out / f"{name}.parquet"), direct)
    accuracy = [
        pd.read_parquet(tmp_path / out / "ablation.parquet")["accuracy"].tolist() for out in ("direct", "named")
    ]
    assert accuracy[0] == accuracy[1]


def test_pictures_of_other_images_are_refused(tmp_path, photographs, local_model, texts):
    store = collected(photographs, local_model, tmp_path / "store")
    arguments = (store, "--model", local_model, "--texts", texts, "--out", tmp_path / "out", "--images", photographs)
    (photographs / "cat" / "1.png").write_bytes((photographs / "dog" / "1.png").read_bytes())
    result = run("report", *arguments)
    assert result.exit_code == 2
    assert "'cat/1.png' gives another embedding than was collected" in result.stderr
    (photographs / "cat").rename(photographs / "bird")
    (photographs / "dog").rename(photographs / "fish")
    result = run("report", *arguments)
    assert result.exit_code == 2
    assert "None of the store's samples (cat/1.png" in result.stderr
    result = run("report", *arguments, "--limit", 3)
    assert result.exit_code == 2
    assert "is collected already: --limit is for" in result.stderr


def test_what_is_no_collection_is_refused(photographs, tmp_path):
    result = run("report", photographs, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "holds no store" in result.stderr
    assert "--images" in result.stderr


def test_limit_is_said_and_each_section_opens_the_same_pictures(tmp_path, photographs, local_model, texts, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photographs.rename("my 'photos' & <b>")
    arguments = ("--images", "my 'photos' & <b>", "--model", local_model, "--texts", texts, "--out", "out")
    result = run("report", *arguments, "--limit", 4)
    assert result.exit_code == 0, result.stderr
    assert "Using 4 of 6 images" in result.stderr
    opened = opened_by(tmp_path / "out" / "report.html")
    explore = ["clip-lens", "explore", "--images", "my 'photos' & <b>", "--limit", "4", "--model", local_model]
    assert [words for words, _ in opened] == [explore] * len(opened)
    states = [state for _, state in opened]
    maps = pd.read_parquet("out/heatmaps.parquet").groupby("image")["text"].unique()
    assert [(each.image, each.texts) for each in states if each.tab == "image"] == [
        (image, tuple(asked)) for image, asked in maps.items()
    ]
    decisions = pd.read_parquet("out/decisions.parquet")[["image", "class", "other"]].drop_duplicates()
    assert [(each.image, *each.texts) for each in states if each.tab == "why"] == [*decisions.itertuples(index=False)]
    assert {each.tab for each in states} == {"image", "why", "off", "heads"}


def opened_by(page):
    """The command under each part of a page, less its link, and the state of the link, every part of it known."""
    found = re.findall(r'In the explorer, page (.*?): <code tabindex="0">(.*?)</code>', page.read_text("utf-8"))
    opened = []
    for title, command in found:
        *words, at, link = shlex.split(html.unescape(command))
        state = state_of_link(link, (*PAGES, "heads"))
        assert at == "--at"
        assert title == (PAGES[state.tab].title if state.tab in PAGES else "Heads")
        opened.append((words, state))
    return opened


def test_drawn_scenes_are_the_default(tmp_path, local_model, texts):
    result = run("report", "--model", local_model, "--texts", texts, "--limit", 30, "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    questions = pd.read_parquet(tmp_path / "ablation.parquet")["question"].unique()
    assert list(questions) == ["colour", "shape", "texture", "position", "background", "size", "count"]


def test_the_embedded_model_is_the_default(tmp_path):
    result = run("report", "--limit", 60, "--out", tmp_path, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    ablation = pd.read_parquet(tmp_path / "ablation.parquet").set_index(["question", "kind"])["accuracy"]
    assert ablation["colour", "base"].item() > 0.9
    assert (tmp_path / "report.html").stat().st_size < 15e6


def test_the_report_is_on_scenes_that_are_not_trained_or_scored_on():
    assert SCENES_SEED not in (0, HELD_OUT_SEED)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "MISSING"], "There is no folder"),
        (["--images", "EMPTY"], "holds no image files"),
        (["--images", "FILE"], "is a file, expected a folder"),
        (["--model", "ViT-B-61"], "Unknown model 'ViT-B-61'. Did you mean"),
        (["--model", "ViT-B-16", "--pretrained", "laion2b"], "no pretrained tag 'laion2b'"),
        (["--texts", "MISSING"], "There is no text file"),
        (["--texts", "FILE"], "holds no text"),
        (["--out", "FILE"], "is a file, expected a folder"),
        (["--device", "abacus"], "The device 'abacus' cannot be used"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("")
    result = run("report", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_only_unreadable_files(tmp_path, local_model, texts):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    arguments = ("--images", tmp_path / "pictures", "--model", local_model, "--texts", texts)
    result = run("report", *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "None of the 1 sample could be read" in result.stderr


def test_a_limit_below_two_is_refused():
    result = run("report", "--limit", 1)
    assert result.exit_code == 2
    assert "limit" in result.stderr


def test_version_and_module():
    assert run("--version").stdout == f"clip-lens {version('clip_lens_plugin')}\n"
    command = [sys.executable, "-m", "clip_lens_plugin", "report", "--help"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--pretrained" in finished.stdout
