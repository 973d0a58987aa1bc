"""Moments of parts and sums of classes, kept by the way: as exact, resumable and checked as the others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from clip_lens_plugin import Moments, class_heads
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.collection import plan as plans
from clip_lens_plugin.collection.parts_and_classes import left_out
from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.collection.store import CollectionDamagedError
from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.hints import for_command_line
from tests.collection.conftest import BrokenScenes, collect_rows, files_of, scenes
from tests.collection.stores import as_of_format_5
from tests.statistics.test_part_moments import plain_part

UNREADABLE = {5: OSError("cut short"), 9: OSError("cut short")}
OWN = ("part_moments.safetensors", "class_sums.safetensors")


@pytest.fixture(scope="module")
def moments_alone(clip, tmp_path_factory) -> ContributionStore:
    """The scenes that :func:`finished` has, without rows, in other blocks; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", 1)
        folder = tmp_path_factory.mktemp("alone")
        dataset = BrokenScenes(21, UNREADABLE)
        return collect_rows(clip, dataset, folder, what="moments", batch_size=5, heads="late")


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "copied", ignore=lambda *_: ["collect.lock"]))


def test_each_part_is_the_moments_of_its_samples(finished):
    found, rows = finished.part_moments, finished[:].normalized()
    own = [plain_part(int(position)) for position in finished.positions]
    assert len(found) == len(set(own))
    for part, moments in zip(sorted(set(own)), found, strict=True):
        expected = Moments.from_contributions(
            rows.select([i for i, each in enumerate(own) if each == part]), range(2, 6)
        )
        assert (moments.n, moments.layers, moments.unit) == (expected.n, (2, 3, 4, 5), "cosine")
        torch.testing.assert_close(moments.sum_yy, expected.sum_yy, rtol=1e-5, atol=1e-8)


def test_parts_together_are_the_moments_of_the_late_heads(finished, moments_alone):
    for store, late in ((finished, slice(2, 6)), (moments_alone, slice(None))):
        first, *others = store.part_moments
        for each in others:
            first += each
        whole = store.moments
        assert (first.n, first.noise) == (whole.n, whole.noise)
        torch.testing.assert_close(first.sum_y, whole.sum_y, rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(first.sum_yy, whole.sum_yy[late], rtol=1e-13, atol=1e-15)


def test_parts_are_the_same_whatever_the_blocks(finished, moments_alone):
    assert [each.n for each in moments_alone.part_moments] == [each.n for each in finished.part_moments]
    for found, expected in zip(moments_alone.part_moments, finished.part_moments, strict=True):
        torch.testing.assert_close(found.sum_yy, expected.sum_yy, rtol=1e-5, atol=1e-8)


def test_sums_of_classes_are_those_of_their_samples(finished):
    sums, rows = finished.class_sums, finished[:].normalized()
    assert sums.counts.tolist() == torch.bincount(finished.labels, minlength=6).tolist()
    assert (sums.layers, sums.n_unlabelled) == (tuple(range(6)), 0)
    for label in range(6):
        own = rows.head_coordinates[finished.labels == label].double().sum(0)
        torch.testing.assert_close(sums.sum_y[label], own, rtol=1e-5, atol=1e-6)


def test_what_classes_explain_is_the_same_from_sums_rows_and_memory(finished, moments_alone):
    kept, alone = class_heads(finished, permutations=3), class_heads(moments_alone)
    of_rows = class_heads(finished, finished.labels, permutations=3)
    in_memory = class_heads(finished[:], finished.labels, finished.classes, permutations=3)
    assert (kept.permutations, alone.permutations) == (3, 0)
    assert (kept.layers, alone.layers) == (tuple(range(6)), (2, 3, 4, 5))
    assert kept.classes == alone.classes == in_memory.classes
    for found in (of_rows, in_memory):
        torch.testing.assert_close(found.eta_squared, kept.eta_squared, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.chance, kept.chance, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(alone.eta_squared, kept.eta_squared[2:], rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="Layer 1 was not looked at: these are layers 2 to 5"):
        alone.classes_of(1, 0)
    with pytest.raises(ValueError, match="6 classes, got names of 1"):
        class_heads(moments_alone, classes=["white"])


def test_interrupted_and_resumed(clip, tmp_path, finished):
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(21, {**UNREADABLE, 14: KeyboardInterrupt()}), tmp_path, dtype="float32")
    collect_rows(clip, BrokenScenes(21, UNREADABLE), tmp_path, dtype="float32", resume=True)
    found, expected = files_of(tmp_path), files_of(finished.folder)
    for name in OWN:
        assert found[name] == expected[name]


def test_samples_without_a_label_are_counted_and_left_out(clip, tmp_path):
    dataset = scenes(9)
    pixels = torch.stack([clip.preprocess(dataset[i][0]) for i in range(9)])
    labelled = TensorDataset(pixels, torch.tensor([0, 1, -1, 1, 0, -1, 1, 0, 1]))
    labelled.classes = ["even", "odd"]
    store = collect_rows(clip, labelled, tmp_path / "store", dtype="float32")
    found = class_heads(store, permutations=0)
    known = (store.labels >= 0).nonzero().flatten()
    expected = class_heads(store[known], store.labels[known], store.classes, permutations=0)
    assert (found.n, found.n_unlabelled) == (7, 2)
    torch.testing.assert_close(found.eta_squared, expected.eta_squared, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.total_variance, expected.total_variance, rtol=1e-3, atol=0)


def test_an_earlier_store_with_rows_gives_them_from_these(copied, clip, finished):
    as_of_format_5(copied)
    store = ContributionStore.open(copied, clip)
    assert (store.plan.format, store.plan.parts, store.plan.class_sums) == (5, 0, None)
    assert store.verify().is_whole
    for found, expected in zip(store.part_moments, finished.part_moments, strict=True):
        assert found.n == expected.n
        torch.testing.assert_close(found.sum_yy, expected.sum_yy, rtol=1e-5, atol=1e-8)
    eta = class_heads(store, permutations=0).eta_squared
    torch.testing.assert_close(eta, class_heads(finished, permutations=0).eta_squared, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"an earlier version collected it\. Collect again, or with what='contrib"):
        _ = store.class_sums


def test_an_earlier_store_without_rows_says_how_to_have_them(clip, tmp_path, moments_alone):
    copied = Path(shutil.copytree(moments_alone.folder, tmp_path / "copied"))
    as_of_format_5(copied)
    store = ContributionStore.open(copied, clip)
    assert store.part_moments == ()
    with for_command_line("--resume"), pytest.raises(ValueError, match=r"earlier version.*--what contributions"):
        class_heads(store)


def test_one_begun_by_an_earlier_version_is_gone_on_with_as_it_was_begun(clip, tmp_path, monkeypatch):
    of = Plan.of

    def earlier(*args: object, **options: object) -> Plan:
        return replace(of(*args, **options), format=5, parts=0, class_sums=None)

    with monkeypatch.context() as patch:
        patch.setattr(Plan, "of", earlier)
        with pytest.raises(KeyboardInterrupt):
            collect_rows(clip, BrokenScenes(9, {8: KeyboardInterrupt()}), tmp_path)
    store = collect_rows(clip, BrokenScenes(9, {}), tmp_path, resume=True)
    assert (store.plan.format, len(store)) == (5, 9)
    assert not {*OWN} & files_of(tmp_path).keys()
    assert sum(each.n for each in store.part_moments) == 9


def test_plans_without_them_are_written_as_earlier_versions_wrote_them(finished):
    values = replace(finished.plan, format=5, parts=0, class_sums=None).to_json()
    assert not {"parts", "class_sums"} & values.keys()
    assert (finished.plan.parts, finished.plan.class_sums) == (50, "all")
    assert Plan.from_json(finished.plan.to_json()) == finished.plan
    with pytest.raises(ValueError, match="has format 7, this version reads 3 to 6"):
        Plan.from_json({**finished.plan.to_json(), "format": 7})


def test_what_is_too_large_is_left_out_and_said(clip, finished, tmp_path, monkeypatch, capsys):
    assert left_out(finished.plan) == []
    monkeypatch.setattr(plans, "MOST_PART_BYTES", 3_000_000)
    monkeypatch.setattr(plans, "MOST_CLASS_BYTES", plans.classes_size(6, finished.plan.shape, "late"))
    some = Plan.of(clip, as_source(scenes(9)), "moments", "float16", 4, None)
    assert (some.parts, some.class_sums, some.class_layers) == (0, "late", (2, 3, 4, 5))
    monkeypatch.setattr(plans, "MOST_CLASS_BYTES", plans.MOST_CLASS_BYTES - 1)
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(9, {0: KeyboardInterrupt()}), tmp_path, progress=True)
    printed = " ".join(capsys.readouterr().err.split())
    assert "moments of 50 parts are left out: they would take 3.6 MB" in printed
    assert "sums of 6 classes are left out: they would take" in printed


@pytest.mark.parametrize("name", OWN)
def test_what_is_damaged_is_said(copied, clip, finished, name):
    path = copied / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    store = ContributionStore.open(copied, clip)
    with pytest.raises(CollectionDamagedError, match=name):
        _ = store.part_moments, store.class_sums
    words = {"part_moments.safetensors": "moments of parts", "class_sums.safetensors": "sums of classes"}[name]
    assert words in finished.verify().good
    assert [f"{name} ({words}) is damaged" in each for each in store.verify().faults] == [True]
