"""What ``ablate`` writes for a store and for a data set, and what ends it in one line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from clip_lens_plugin.cli import SCENES_SEED
from clip_lens_plugin.collection import ContributionStore, collect
from clip_lens_plugin.scenes.captions import TEMPLATES, prompts
from clip_lens_plugin.scenes.dataset import ScenesDataset

pytestmark = pytest.mark.slow


def save_scenes(folder, n, attribute="background"):
    """Drawn scenes as photographs in class folders, in the order of the attribute's prompts."""
    scenes = ScenesDataset(n, SCENES_SEED, attribute)
    for i in range(n):
        picture, label = scenes[i]
        path = folder / f"{label}_{prompts(attribute)[label].replace(' ', '_')}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return folder


def plain_classes(model, names, templates):
    rows = []
    for name in names:
        units = [model.clip.encode_text(model.tokenizer([t.replace("{}", name)]))[0] for t in templates]
        rows.append(sum(unit / unit.norm() for unit in units))
    return torch.stack([row / row.norm() for row in rows])


def test_numbers_are_those_of_open_clip_and_of_replaced_contributions(tmp_path, run, scenes_store, opened):
    out = tmp_path / "out"
    result = run("ablate", scenes_store, "--out", out, "--format", "svg")
    assert result.exit_code == 0, result.stderr
    files = ["ablation.parquet", "ablation.csv", "zero_shot.csv", "ablation.svg"]
    assert result.stdout.splitlines() == [str(out / name) for name in files]
    with torch.no_grad():
        classes = plain_classes(opened.model, prompts("background"), TEMPLATES)
    assert result.stderr.splitlines()[-1].startswith("next: in Python, ")
    c, truth = opened[:].normalized(), opened.labels
    found = pd.read_parquet(out / "ablation.parquet")
    embedding = c.embedding.clone()
    curve = found[found["kind"].isin(["base", "attention"])].sort_values("layers")["accuracy"].tolist()
    for layer, accuracy in enumerate(curve):
        if layer > 0:
            for heads in c.heads[:, layer - 1].unbind(1):
                embedding += heads.mean(0) - heads
        right = [int((classes @ e).argmax()) == int(y) for e, y in zip(embedding, truth, strict=True)]
        assert accuracy == pytest.approx(np.mean(right), abs=1.01 / 64)
    assert curve[-1] < 0.6 < curve[0]
    scores = c.embedding @ classes.T
    five = (scores.topk(5).indices == truth[:, None]).any(1)
    per_class = pd.read_csv(out / "zero_shot.csv")
    assert per_class["class"].tolist() == prompts("background")
    assert per_class["n"].tolist() == torch.bincount(truth, minlength=6).tolist()
    assert f"top-5 {100 * five.double().mean():.1f} %" in result.stderr
    assert f"top-1 {100 * curve[0]:.1f} %" in result.stderr
    assert (pd.read_csv(out / "ablation.csv")["accuracy"] == found["accuracy"]).all()


def test_a_folder_is_collected_and_its_class_folders_are_the_classes(tmp_path, run, scenes_model):
    folder = save_scenes(tmp_path / "scenes", 24)
    result = run("ablate", folder, "--out", tmp_path / "out", "--effect", "total", "--ablation", "zero")
    assert result.exit_code == 0, result.stderr
    names = pd.read_csv(tmp_path / "out" / "zero_shot.csv")["class"].tolist()
    assert names == sorted(path.name.replace("_", " ") for path in folder.iterdir())
    table = pd.read_parquet(tmp_path / "out" / "ablation.parquet")
    assert set(table["effect"]) == {"total"}
    assert set(table["ablation"]) == {"zero"}
    assert len(ContributionStore.open(tmp_path / "out" / "collected", scenes_model)) == 24
    assert result.stderr.splitlines()[-1] == (
        f"next: clip-lens report {tmp_path / 'out' / 'collected'} --images {folder}"
    )
    assert Image.open(tmp_path / "out" / "ablation.png").size[0] > 400


def test_a_total_effect_on_a_collection_takes_its_images(tmp_path, run, refused, scenes_model):
    folder = save_scenes(tmp_path / "scenes", 24)
    (tmp_path / "classes.txt").write_text("\n".join(f"{path.name}\t{path.name[2:]}" for path in folder.iterdir()))
    assert run("collect", folder, "--out", tmp_path / "store").exit_code == 0
    arguments = ("ablate", tmp_path / "store", "--out", tmp_path / "out", "--effect", "total", "--ablation", "zero")
    classes = ("--classes", tmp_path / "classes.txt")
    result = run(*arguments, *classes)
    assert result.exit_code == 0, result.stderr
    found = (tmp_path / "out" / "ablation.parquet").read_bytes()
    moved = folder.rename(tmp_path / "moved")
    assert "is not in reach" in (line := refused(*arguments))
    assert line.endswith("--images DATASET.\n")
    result = run(*arguments, "--images", moved, *classes)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "ablation.parquet").read_bytes() == found
    other = run(*arguments, "--images", save_scenes(tmp_path / "others", 30))
    assert other.exit_code == 2
    assert "Give the same data set" in " ".join(other.stderr.split())


def test_a_total_effect_on_collected_scenes_draws_them_again(tmp_path, run, scenes_store, opened):
    arguments = ("ablate", scenes_store, "--out", tmp_path / "out", "--effect", "total")
    result = run(*arguments, "--ablation", "zero")
    assert result.exit_code == 0, result.stderr
    table = pd.read_parquet(tmp_path / "out" / "ablation.parquet").set_index("ablated")
    with torch.no_grad():
        classes = plain_classes(opened.model, prompts("background"), TEMPLATES)
    right = (opened[:].embedding @ classes.T).argmax(1) == opened.labels
    assert table.loc["nothing", "accuracy"] == pytest.approx(right.double().mean().item())
    assert set(table["effect"]) == {"total"}
    other = run(*arguments, "--images", "scenes")
    assert other.exit_code == 2
    assert "Give the same data set" in " ".join(other.stderr.split())


def test_mistakes_are_one_line_and_exit_code_2(tmp_path, refused, scenes_store, scenes_model):
    out = ("--out", tmp_path / "out")
    (tmp_path / "three.txt").write_text("one\ntwo\nthree\n")
    assert "has 3 classes, the data set 6" in refused("ablate", scenes_store, *out, "--classes", tmp_path / "three.txt")
    assert "has 1000 classes" in refused("ablate", scenes_store, *out, "--classes", "imagenet")
    assert "There is no text file" in refused("ablate", scenes_store, *out, "--classes", tmp_path / "missing.txt")
    assert "is for total effects" in refused("ablate", scenes_store, *out, "--images", tmp_path)
    assert "There is no folder" in refused("ablate", tmp_path / "missing", *out)
    collect(scenes_model, ScenesDataset(4, 0), tmp_path / "unlabelled", "contributions", progress=False)
    assert "has a label" in refused("ablate", tmp_path / "unlabelled", *out)
    collect(scenes_model, ScenesDataset(4, 0, "colour"), tmp_path / "moments", "moments", progress=False)
    assert "no rows of samples" in refused("ablate", tmp_path / "moments", *out)


def test_a_data_set_without_classes_is_refused_before_it_is_run(tmp_path, refused):
    (tmp_path / "flat").mkdir()
    for i in range(2):
        Image.new("RGB", (60, 60)).save(tmp_path / "flat" / f"{i}.png")
    assert "names no classes" in refused("ablate", tmp_path / "flat", "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "collected").exists()
