"""What ``segment`` prints and writes, and what ends it in one line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clip_lens_plugin import segmentation_scores
from clip_lens_plugin.segmentation import DrawnObjects

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    for each in ("images", "masks"):
        (tmp_path / "data" / each).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / f"data/images/{i}.png")
        values = np.zeros((40, 60), dtype=np.uint8)
        values[5 : 25 + i, 10:40] = 3
        Image.fromarray(values).save(tmp_path / f"data/masks/{i}.png")
    (tmp_path / "texts.csv").write_text("0.png,red circle\n1.png,blue star\n2.png,red circle\n")
    (tmp_path / "names.csv").write_text("3,a [b] circle\n4,star\n")
    return tmp_path / "data"


def test_drawn_scenes_with_the_table_the_page_and_each_image(tmp_path, run, scenes_model):
    wanted = ("--objects", 2, "--limit", 3, "--methods", "patch_text,random", "--show", 1)
    made = run("segment", *wanted, "--html", tmp_path / "a.html", "--csv", tmp_path / "a.csv")
    assert made.exit_code == 0, made.stderr
    assert made.stdout.splitlines() == [str(tmp_path / name) for name in ("a.csv", "a-images.csv", "a.html")]
    own = segmentation_scores(scenes_model, ["patch_text", "random"], DrawnObjects(3, 2), overlays=0)
    table, each = pd.read_csv(tmp_path / "a.csv"), pd.read_csv(tmp_path / "a-images.csv")
    columns = [name for name in table if name != "seconds"]
    pd.testing.assert_frame_equal(table[columns], own.to_dataframe()[columns], check_exact=False, rtol=1e-6)
    assert len(each) == 6 * 3
    assert set(each["kind"]) == {"patch_text, contrast", "patch_text", "random"}
    assert "patch_text, contrast" in made.stderr
    assert "chance is 50 %" in made.stderr
    for label in own.kinds:
        assert f"{100 * own.estimates[label]['average_precision'].value:.1f}" in made.stderr
    page = (tmp_path / "a.html").read_text()
    assert "Maps of 1 image<" in page


def test_folders_by_texts_and_by_names_in_each_mode(tmp_path, run, folder):
    wanted = ("--methods", "patch_text,raw_attention", "--html", tmp_path / "a.html", "--contrast", "with", "--show", 1)
    for mode in ("original", "paper", "squash"):
        made = run("segment", folder, "--texts", tmp_path / "texts.csv", "--mode", mode, *wanted)
        assert made.exit_code == 0, made.stderr
        assert "3 photographs of data" in made.stderr
        # 60 x 40 keeps its middle 40 x 40, where the input is made of it.
        assert ("33.3 % of all pixels were not seen" in made.stderr) == (mode == "original")
    made = run("segment", folder, "--names", tmp_path / "names.csv", *wanted, "--limit", 2, "--template", "one {}")
    assert made.exit_code == 0, made.stderr
    assert "3 photographs of data, 2 of 3" in made.stderr


def test_the_file_of_imagenet_segmentation(tmp_path, run):
    pytest.importorskip("h5py")
    from tests.segmentation.masked.test_imagenet_file import written

    (tmp_path / "names.txt").write_text("n02085620,red circle\n")
    where = (written(tmp_path / "gtsegs_ijcv.mat"), "--names", tmp_path / "names.txt", "--limit", 2)
    made = run("segment", *where, "--methods", "random", "--html", tmp_path / "a.html", "--csv", tmp_path / "a.csv")
    assert made.exit_code == 0, made.stderr
    assert pd.read_csv(tmp_path / "a-images.csv")["text"].tolist() == ["red circle", "tench"]


def test_an_interrupted_run_goes_on(tmp_path, run):
    wanted = ("--limit", 2, "--methods", "random", "--html", tmp_path / "a.html", "--resume", tmp_path / "kept.parquet")
    assert run("segment", *wanted).exit_code == 0
    before = pd.read_parquet(tmp_path / "kept.parquet")
    assert run("segment", *wanted).exit_code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "kept.parquet"), before)


def test_mistakes_are_one_line_and_exit_code_2(tmp_path, refused, folder):
    out = ("--html", tmp_path / "a.html")
    assert "method must be 'patch_text'" in refused("segment", "--methods", "patchtext", *out)
    assert "say what the masks of a folder mean" in refused("segment", "--names", tmp_path / "names.csv", *out)
    assert "--void say what" in refused("segment", tmp_path / "texts.csv", "--void", 3, *out)
    assert "There is no folder or file" in refused("segment", tmp_path / "none.mat", *out)
    assert "--texts texts.csv" in refused("segment", folder, *out)
    assert "--objects is for drawn scenes" in refused("segment", folder, "--objects", 2, *out)
    assert "no HDF5 file" in refused("segment", tmp_path / "texts.csv", *out)
    assert "1 or 2 objects, got 0" in refused("segment", "--objects", 0, *out)
    assert "--csv must end in .csv" in refused("segment", "--csv", tmp_path / "a.xlsx", *out)
    assert "--html must end in one of" in refused("segment", "--html", tmp_path / "a.txt")
