"""The report's numbers against plain recomputations from the contributions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import ColorJitter, Compose

from clip_lens_plugin import HookedCLIP, TextPool, ZeroShotClassifier, class_heads, explain, head_roles
from clip_lens_plugin.datasets.image_folder import Skipped
from clip_lens_plugin.report.analyses import Question, analyse
from clip_lens_plugin.views.report.report import render, write_report
from tests.conftest import random_clip, random_images
from tests.support.families import FAMILIES

pytestmark = pytest.mark.slow

N = 12
TEXTS = [f"a {colour} {thing}" for colour in ("red", "blue", "old") for thing in ("car", "dog", "house", "cup")]
ANSWERS = torch.tensor([0, 1, 2] * 3 + [-1] * 3)


@pytest.fixture(scope="module")
def clip(tokenizer) -> HookedCLIP:
    return HookedCLIP.from_open_clip(random_clip(), image_transform(32, is_train=False), tokenizer)


@pytest.fixture(scope="module")
def images(clip):
    return random_images(clip, N)


@pytest.fixture(scope="module")
def report(clip, images):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIP_LENS_CACHE", "")
        return analyse(
            clip,
            images,
            names=[f"{i}.png" for i in range(N)],
            pool=TextPool.from_strings(TEXTS),
            questions=[Question("thing", ("a car", "a dog", "a cup"), ANSWERS)],
            skipped=[Skipped("broken.png", "cut off")],
        )


def test_shares_of_all_parts_sum_to_one(report):
    assert report.layers["share_mean"].sum() == pytest.approx(1, abs=1e-5)
    assert report.completeness_error < 1e-5


def test_what_the_classes_explain_is_of_the_images_with_an_answer(clip, images, report):
    (found,) = report.explained
    assert (found.question, found.heads.classes, found.heads.n) == ("thing", ("a car", "a dog", "a cup"), 9)
    alone = class_heads(clip.decompose(images[:9]), ANSWERS[:9], found.heads.classes, permutations=3)
    torch.testing.assert_close(found.heads.eta_squared, alone.eta_squared, rtol=1e-4, atol=1e-5)
    table = report.tables["class_heads"]
    assert (set(table["question"]), len(table)) == ({"thing"}, 12)
    assert report.tables["classes"]["images"].tolist() == [3, 3, 3]
    page = render(report)
    assert '<div id="classes">' in page
    assert "class_heads.parquet" in page


def test_head_shares_are_projections_on_the_embedding(clip, images, report):
    c = clip.decompose(images)
    shares = torch.einsum("blhe,be->blh", c.heads, c.embedding) / c.embedding.square().sum(-1)[:, None, None]
    got = report.heads.set_index(["layer", "head"])
    for (layer, head), row in got.iterrows():
        each = shares[:, layer, head].double()
        assert row["share_mean"] == pytest.approx(each.mean().item(), abs=1e-6)
        assert row["share_std"] == pytest.approx(each.numpy().std(), abs=1e-6)


def test_layer_rows_are_sums_of_their_heads(report):
    heads = report.heads.groupby("layer")["share_mean"].sum()
    rows = report.layers[report.layers["part"] == "heads"].set_index("layer")["share_mean"]
    np.testing.assert_allclose(rows.to_numpy(dtype=float), heads.to_numpy(), atol=1e-9)


def test_top_images_are_those_of_a_plain_recomputation(clip, images, report):
    c = clip.decompose(images).normalized()
    assert set(report.top_images["side"]) == {"highest", "lowest"}
    for (layer, head, _, text, side), rows in report.top_images.groupby(["layer", "head", "rank", "text", "side"]):
        scores = c.heads[:, layer, head] @ clip.encode_text(text)[0]
        scores = scores - scores.mean()
        best = scores.argsort(descending=side == "highest")[: len(rows)]
        assert rows.sort_values("place")["image"].tolist() == best.tolist()
        np.testing.assert_allclose(rows["score"], scores[best].numpy(), atol=1e-6)
        assert rows["name"].tolist() == [f"{i}.png" for i in best.tolist()]


def test_ablation_scores_one_half_with_the_means_of_the_other(clip, images, report):
    table = report.ablation
    assert set(table["scored"]) == {4}
    assert set(table["means_from"]) == {5}
    known = [i for i in range(N) if ANSWERS[i] >= 0]
    means, scored = known[0::2], known[1::2]
    texts = clip.encode_text(["a car", "a dog", "a cup"])
    c = clip.decompose(images)
    norm = c.embedding.norm(dim=-1, keepdim=True)
    mlps = c.mlps.sum(1) / norm
    changed = (c.embedding / norm)[scored] - mlps[scored] + mlps[means].mean(0)
    expected = ((changed @ texts.T).argmax(-1) == ANSWERS[scored]).double().mean().item()
    assert table.loc[table["kind"] == "mlps", "accuracy"].item() == pytest.approx(expected)
    base = ((c.embedding[scored] @ texts.T).argmax(-1) == ANSWERS[scored]).double().mean().item()
    assert table.loc[table["kind"] == "base", "accuracy"].item() == pytest.approx(base)


def test_heatmaps_use_the_nearest_texts_and_sum_to_what_heads_add(clip, images, report):
    c = clip.decompose(images).normalized()
    texts = clip.encode_text(TEXTS)
    assert [each.image for each in report.heatmaps] == [0, 3, 6, 9]
    for each in report.heatmaps:
        cosines = texts @ c.embedding[each.image]
        nearest = cosines.argsort(descending=True)[:3]
        assert each.scores.texts == tuple(TEXTS[i] for i in nearest)
        torch.testing.assert_close(each.scores.cosine, cosines[nearest], atol=1e-6, rtol=0)
        heads = c.heads[each.image].sum((0, 1)) @ texts[nearest].T
        torch.testing.assert_close(each.scores.map().scores[0], heads, atol=1e-5, rtol=0)
        assert each.placement is None
        assert each.picture.size == (32, 32)


def test_decisions_are_between_the_two_nearest_classes_of_the_first_images(clip, images, report):
    classifier = ZeroShotClassifier.from_labels(clip, ("a car", "a dog", "a cup"))
    assert [each.image for each in report.decisions] == [0, 3]
    for each in report.decisions:
        found = explain(clip, images[each.image], classifier, means=clip.decompose(images), random_sets=10)
        assert (each.decision.texts, each.question) == (found.texts, "thing")
        assert each.decision.gap == pytest.approx(found.gap, abs=1e-6)
        assert [one.heads for one in each.decision.removed] == [one.heads for one in found.removed]
        assert "the same at every token" in each.decision.replaced_by
    page = " ".join(render(report).split())
    assert page.count('class="cl-decision"') == 2
    assert "one class of “thing” than to the next" in page
    table = report.tables["decisions"]
    sums = table.groupby(["image", "table"])["gap"].sum()
    assert sums[3, "patches"] == pytest.approx(report.decisions[1].decision.gap, abs=1e-6)


def test_a_caption_an_image_comes_before_the_nearest_texts(clip, images):
    captions = [f"picture {i}" for i in range(N)]
    pool = TextPool.from_strings(TEXTS)
    report = analyse(clip, images, names=captions, pool=pool, captions=captions)
    assert [each.scores.texts[0] for each in report.heatmaps] == [captions[each.image] for each in report.heatmaps]
    assert all(len(each.scores.texts) == 3 for each in report.heatmaps)
    assert report.ablation.empty


def test_maps_lie_on_photographs_where_the_geometry_is_known(clip, images, tokenizer):
    pool, names = TextPool.from_strings(TEXTS), [str(i) for i in range(N)]
    photograph = Image.new("RGB", (60, 40), "red")
    report = analyse(clip, images, names=names, pool=pool, photograph=lambda i: photograph)
    for each in report.heatmaps:
        assert each.picture is photograph
        assert each.placement is not None
        assert each.placement.box == pytest.approx((10, 0, 50, 40))
    jittered = Compose([ColorJitter(), *clip.preprocess.transforms])
    unknown = HookedCLIP.from_open_clip(clip.clip, jittered, tokenizer)
    report = analyse(unknown, images, names=names, pool=pool, photograph=lambda i: photograph)
    assert all(each.placement is None and each.picture.size == (32, 32) for each in report.heatmaps)


def test_maps_of_large_towers_are_fewer(clip, images, monkeypatch):
    each = 4 * 3 * 4 * 17 * 3
    for room, expected in ((each * 2, 2), (each - 1, 1), (each * 100, 4)):
        monkeypatch.setattr("clip_lens_plugin.report.analyses.HEATMAP_BYTES", room)
        report = analyse(clip, images, names=[str(i) for i in range(N)], pool=TextPool.from_strings(TEXTS))
        assert len(report.heatmaps) == expected


def test_tables_on_disk_are_those_of_the_page(clip, images, report, tmp_path):
    stages = []
    found = analyse(
        clip,
        images,
        names=report.names,
        pool=TextPool.from_strings(TEXTS),
        questions=[Question("thing", ("a car", "a dog", "a cup"), ANSWERS)],
        skipped=[Skipped("broken.png", "cut off")],
        on_progress=lambda stage, done, total: stages.append((stage, done, total)),
    )
    page = write_report(found, tmp_path / "new" / "folder")
    assert page == tmp_path / "new" / "folder" / "report.html"
    for name in ("layers", "heads", "text_span", "top_images", "ablation", "skipped"):
        pd.testing.assert_frame_equal(pd.read_parquet(page.parent / f"{name}.parquet"), getattr(report, name))
    maps = pd.read_parquet(page.parent / "heatmaps.parquet")
    assert len(maps) == sum(each.scores.map().values.numel() for each in report.heatmaps)
    first = report.heatmaps[0].scores.map().values[0, 1, 2, 3].item()
    row = maps[(maps["image"] == 0) & (maps["row"] == 2) & (maps["column"] == 3)].iloc[1]
    assert row["value"] == pytest.approx(first)
    assert ("decomposing images", N, N) in stages


def test_identical_images_are_no_error(clip, images, tmp_path):
    same = images[:1].expand(4, -1, -1, -1)
    report = analyse(clip, same, names=["a", "b", "c", "d"], pool=TextPool.from_strings(TEXTS))
    assert report.decisions == ()  # Without classes.
    assert write_report(report, tmp_path).is_file()


def test_roles_are_those_of_the_late_heads_beside_their_texts(clip, images, tmp_path):
    pool = TextPool(tuple(TEXTS), tuple(text.split()[1] for text in TEXTS))
    stages = []
    report = analyse(
        clip, images, names=list("abcdefghijkl"), pool=pool, roles=True, on_progress=lambda *each: stages.append(each)
    )
    alone = head_roles(clip, clip.decompose(images), pool)
    pd.testing.assert_frame_equal(report.tables["roles"], alone.to_dataframe(), rtol=1e-4)
    assert ("turned pools", 200, 200) in stages
    page = write_report(report, tmp_path).read_text(encoding="utf-8")
    assert '<div id="roles">' in page
    assert page.count('<div class="cl-soft">role: ') == len(report.spans) + int(report.clarity["clear"].head(5).sum())
    with pytest.raises(ValueError, match="No text of the pool has a theme"):
        analyse(clip, images, names=list("abcdefghijkl"), pool=TextPool.from_strings(TEXTS), roles=True)


def test_inputs_that_do_not_fit_are_refused(clip, images):
    pool = TextPool.from_strings(TEXTS)
    with pytest.raises(ValueError, match="at least two images, got 1"):
        analyse(clip, images[:1], names=["a"], pool=pool)
    with pytest.raises(ValueError, match="12 images need as many names, got 1"):
        analyse(clip, images, names=["a"], pool=pool)
    with pytest.raises(ValueError, match="12 images need as many captions, got 2"):
        analyse(clip, images, names=["a"] * N, pool=pool, captions=["a", "b"])


def test_an_attention_pools_own_parts_are_shares_too(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setenv("CLIP_LENS_CACHE", "")
    siglip = HookedCLIP.from_open_clip(FAMILIES["SigLIP"](), image_transform(32, is_train=False), tokenizer)
    batch = random_images(siglip, 4)
    report = analyse(siglip, batch, names=list("abcd"), pool=TextPool.from_strings(TEXTS))
    assert report.layers["share_mean"].sum() == pytest.approx(1, abs=1e-5)
    mean = report.layers.set_index("part")["share_mean"]
    c = siglip.decompose(batch)
    for part, expected in (("pool_bias", c.pool_bias), ("pool_mlp", c.pool_mlp)):
        share = (expected * c.embedding).sum(-1) / c.embedding.square().sum(-1)
        assert mean[part] == pytest.approx(share.double().mean().item(), abs=1e-6)
    written = write_report(report, tmp_path).read_text(encoding="utf-8")
    assert "attention pool&#39;s MLP" in written
    assert "what the attention pool's own biases and MLP add" in " ".join(written.split())
