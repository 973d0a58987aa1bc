"""Sums of classes are those of their images, and know what is labelled from what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from clip_lens_plugin import ClassSums, HookedCLIP, Moments
from clip_lens_plugin.statistics.class_sums import class_sums_bytes
from tests.conftest import random_clip, random_images

LABELS = [1, -1, 4, 1, 0, -1, 4, 4, 1, 0, 1, 4]


@pytest.fixture(scope="module")
def rows():
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))
    return model.decompose(random_images(model, 12)).normalized()


def sums_of(rows, cuts: tuple[int, ...] = (), layers=(1, 2)) -> ClassSums:
    batches = [rows.select(range(start, stop)) for start, stop in zip((0, *cuts), (*cuts, 12), strict=True)]
    return ClassSums.none(rows, 5, layers).absorb(batches, LABELS)


def test_sums_are_those_of_the_images_of_a_class(rows):
    found = sums_of(rows, (5, 6))
    assert found.counts.tolist() == [2, 4, 0, 0, 4]
    assert found.n_unlabelled == 2
    for label in range(5):
        own = [row for row, each in enumerate(LABELS) if each == label]
        torch.testing.assert_close(found.sum_y[label], rows.head_coordinates[own][:, 1:].sum(0))
        torch.testing.assert_close(found.sum_embedding[label], rows.embedding[own].sum(0))


def test_labelled_images_have_moments_of_their_own(rows):
    labelled = [row for row, each in enumerate(LABELS) if each >= 0]
    for of_all in (Moments.from_contributions(rows), Moments.from_contributions(rows, [1, 2])):
        found = sums_of(rows, (3,)).labelled(of_all)
        expected = Moments.from_contributions(rows.select(labelled), [1, 2])
        assert (found.n, found.layers) == (10, (1, 2))
        torch.testing.assert_close(found.sum_y, expected.sum_y)
        torch.testing.assert_close(found.sum_yy, expected.sum_yy)
    with pytest.raises(ValueError, match=r"of 12 images .*\(images=10"):
        sums_of(rows).labelled(expected)
    with pytest.raises(ValueError, match="Layer 1 is not in these moments"):
        sums_of(rows).labelled(Moments.from_contributions(rows, [2]))


def test_batches_merging_and_a_file_make_no_difference(rows, tmp_path):
    whole = sums_of(rows)
    halves = [
        ClassSums.none(rows, 5, (1, 2)).absorb([rows.select(some)], [LABELS[row] for row in some])
        for some in ([*range(0, 12, 2)], [*range(1, 12, 2)])
    ]
    merged = halves[0].absorb_sums(halves[1])
    merged.save(tmp_path / "sums.safetensors")
    loaded = ClassSums.load(tmp_path / "sums.safetensors")
    assert torch.equal(loaded.sum_y, merged.sum_y)
    for found in (merged, loaded, sums_of(rows, (4, 8))):
        assert torch.equal(found.counts, whole.counts)
        assert found.n_unlabelled == 2
        torch.testing.assert_close(found.sum_y, whole.sum_y)
        torch.testing.assert_close(found.sum_embedding, whole.sum_embedding)
        torch.testing.assert_close(found.unlabelled.sum_yy, whole.unlabelled.sum_yy)
    with pytest.raises(ValueError, match="do not add"):
        whole.absorb_sums(replace(whole, unit="embedding"))
    with pytest.raises(ValueError, match="do not fit"):
        ClassSums.from_tensors({**whole.to_tensors(), "layers": torch.tensor([2])})


def test_the_size_is_that_of_the_tensors(rows):
    sums = sums_of(rows)
    c, m, h, k = sums.sum_y.shape
    assert sums.counts.nbytes + sums.sum_y.nbytes + sums.sum_embedding.nbytes == class_sums_bytes(c, m, h, k, 24)
    assert class_sums_bytes(1000, 12, 12, 64, 512) == pytest.approx(78e6, rel=0.01)  # ViT-B-16
    assert class_sums_bytes(1000, 24, 16, 64, 768) == pytest.approx(0.203e9, rel=0.01)  # ViT-L-14
