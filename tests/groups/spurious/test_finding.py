"""Heads of a cue on the embedded model: each effect equals a run or a sum of its own, and chance stands beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clip_lens_plugin import Contributions, Groups, HookedCLIP, SpuriousHeads, mean_ablation_curve, spurious_heads
from clip_lens_plugin.ablation import Components, activation_means, mean_ablation
from clip_lens_plugin.scenes import draw, sample_scenes
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier
from tests.groups.conftest import CORE, CUES

pytestmark = pytest.mark.slow

TEXTS = ("circle on white background", "square on black background")
OPTIONS = {"random_sets": 40, "permutations": 5}


@pytest.fixture(scope="module")
def scenes():
    made = sample_scenes(120, seed=11)
    pairs = [(shape, background) for shape in ("circle", "square") for background in ("white", "black")]
    return [replace(s, shape=pairs[i % 4][0], background=pairs[i % 4][1]) for i, s in enumerate(made)]


@pytest.fixture(scope="module")
def model() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu")


@pytest.fixture(scope="module")
def pixels(scenes, model):
    return model.prepare([draw(scene) for scene in scenes])


@pytest.fixture(scope="module")
def rows(model, pixels) -> Contributions:
    return model.decompose(pixels)


@pytest.fixture(scope="module")
def groups(scenes) -> Groups:
    return Groups.of([s.shape for s in scenes], [s.background for s in scenes], cue_names=["white", "black"])


@pytest.fixture(scope="module")
def classifier(model) -> ZeroShotClassifier:
    return ZeroShotClassifier.from_labels(model, TEXTS)


@pytest.fixture(scope="module")
def found(model, rows, classifier, groups, pixels) -> SpuriousHeads:
    ceiling = ZeroShotClassifier.from_labels(model, ["circle", "square"])
    return spurious_heads(
        model, rows, classifier, groups, images=pixels, without_cue=ceiling, most=3, batch_size=100, **OPTIONS
    )


def right(margins: torch.Tensor, groups: Groups, rows: list[int]) -> list[float]:
    """Share of each group, and of all."""
    said = (margins > 0).numpy()
    y, a = groups.labels[rows], groups.values[rows]
    ok = said == (y == 1)
    return [float(ok[(y == p) & (a == q)].mean()) for p in (0, 1) for q in (0, 1)] + [float(ok.mean())]


def shares(found: SpuriousHeads, stage: str) -> list[float]:
    each = found.share(stage)
    return [share.value for share in (*each.groups, each.average)]


def test_removing_the_cue_helps_the_worst_group(found):
    assert found.heads
    before, direct = found.share("before"), found.share("direct")
    assert direct.worst.value > before.worst.value
    assert found.share("ceiling").worst.value > before.worst.value
    assert len(found.random.worst) == 40
    assert found.random.p >= 1 / 41
    assert found.permuted.p >= 1 / 6
    assert [each.stage for each in found.shares] == ["before", "direct", "class_token", "total", "ceiling"]
    table = found.to_dataframe()
    assert len(table) == 5 * 6 + 2
    chance = table.query("stage == 'random'").iloc[0]
    assert (chance["n"], chance["accuracy"]) == (40, found.random.worst.mean())
    worst = table.query("stage == 'direct' and kind == 'worst'").iloc[0]
    assert (worst["accuracy"], worst["low"], worst["high"]) == (
        direct.worst.value, direct.worst.low, direct.worst.high,
    )  # fmt: skip
    assert "splits drawn at random in every group" in repr(found)
    assert "p = 0." in repr(found)


def test_the_direct_effect_is_that_of_the_ablation_curve(found, rows, classifier, groups):
    test, means = list(found.rows["test"]), list(found.rows["means"])
    components = [Components.of_heads(found.effects and rows.readout.model, found.heads)]
    curve = mean_ablation_curve(
        rows.select(test), classifier, torch.from_numpy(groups.labels[test]), rows.select(means), components=components
    )
    assert curve["accuracy"].tolist() == pytest.approx(
        [found.share("before").average.value, found.share("direct").average.value]
    )


@pytest.mark.parametrize(("stage", "positions"), [("total", None), ("class_token", [0])])
def test_effects_of_runs_are_those_of_hooks(found, model, pixels, classifier, groups, stage, positions):
    test, means = list(found.rows["test"]), list(found.rows["means"])
    names = sorted({f"blocks.{layer}.attn.hook_z" for layer, _ in found.heads})
    mean = activation_means(model, pixels[means], names)
    hooks = [(f"blocks.{layer}.attn.hook_z", mean_ablation(mean, [head], positions)) for layer, head in found.heads]
    with torch.no_grad():
        embeddings = model.run_with_hooks(pixels[test], fwd_hooks=hooks)
    direction = classifier.embeddings[1] - classifier.embeddings[0]
    assert shares(found, stage) == pytest.approx(right(embeddings @ direction, groups, test))


def test_parts_are_disjoint_and_the_rest_reads_no_test_image(found, model, rows, classifier, groups):
    parts = [set(rows) for rows in found.rows.values()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(rows)
    # Other test images change nothing of what is chosen.
    kept = sorted(parts[0] | parts[1])
    splits = ["means" if row in parts[0] else "validation" if row in parts[1] else "test" for row in range(len(rows))]
    turned = groups.labels.copy()
    for row in parts[2]:
        turned[row] = 1 - turned[row]
    other = Groups.of(turned, groups.values, splits, classes=groups.classes, cue_names=groups.cues)
    again = spurious_heads(model, rows, classifier, other, most=3, runs=False, random_sets=0, permutations=0)
    assert again.heads == found.heads
    assert len(kept) + len(found.rows["test"]) == len(rows)
    assert not again.drawn
    assert "direct effect stands alone" in again.note


def test_images_of_other_data_are_refused(model, rows, classifier, groups, pixels):
    options = {"random_sets": 0, "permutations": 0, "most": 1}
    with pytest.raises(ValueError, match="The images are not those of the data: the margin of image"):
        spurious_heads(model, rows, classifier, groups, images=pixels.flip(0), **options)
    with pytest.raises(ValueError, match="hold 120 images, but 10 were given"):
        spurious_heads(model, rows, classifier, groups, images=pixels[:10], **options)
    with pytest.raises(ValueError, match="Images are for runs of the model"):
        spurious_heads(model, rows, classifier, groups, images=pixels, runs=False)
    found = spurious_heads(model, rows, classifier, groups, **options)
    assert found.note.startswith("The direct effect stands alone: Total effects run the model: give images")
    assert found.share("total") is None


def test_planted_heads_alone_are_removed(spurious, small, texts, grouped):
    found = spurious_heads(small, spurious, texts, grouped, runs=False, random_sets=50, permutations=10)
    assert found.heads
    assert set(found.heads) <= set(CUES)
    assert CORE not in found.heads
    assert found.share("direct").worst.value > found.share("before").worst.value + 0.3
    assert found.random.p < 0.05


def test_where_nothing_helps_nothing_is_removed(plain, small, texts, grouped):
    far = torch.nn.functional.normalize(texts + 50 * plain.embedding.mean(0) / plain.embedding.norm(), dim=-1)
    found = spurious_heads(small, plain, far, grouped, most=1, candidates=1, random_sets=10, permutations=2)
    if not found.heads:
        assert np.isnan(found.random.p)
        assert "none is removed" in found.note
        assert shares(found, "before") == shares(found, "direct")
