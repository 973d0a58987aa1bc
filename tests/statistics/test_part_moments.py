"""Moments of disjoint parts are those of their rows, whatever the batches, and together those of all rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lens_plugin import HookedCLIP, Moments
from clip_lens_plugin.statistics.part_moments import N_PARTS, PartMoments, part_of, parts_bytes
from tests.conftest import random_clip, random_images


def plain_part(position: int) -> int:
    """SplitMix64's output for a state, with Python's whole numbers."""
    x = (position + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return (x ^ (x >> 31)) % 50


def test_a_rows_part_follows_from_its_position_alone_and_looks_drawn():
    positions = np.arange(50_000)
    parts = part_of(positions)
    assert parts[:200].tolist() == [plain_part(position) for position in range(200)]
    assert np.array_equal(part_of(positions[::-7]), parts[::-7])
    sizes = np.bincount(parts, minlength=N_PARTS)
    # Of 1,000 expected the standard deviation is 31.
    assert sizes.min() > 850
    assert sizes.max() < 1150
    # Not one of each class, where every run of fifty rows is a class.
    held = np.array([len(set(run)) for run in parts.reshape(-1, 50)])
    assert 30 < held.mean() < 34  # 50 (1 − (49/50)^50) = 31.8


@pytest.fixture(scope="module")
def rows():
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))
    return model.decompose(random_images(model, 30)).normalized()


def parts_of(rows, cuts: list[int], layers=(1, 2)) -> PartMoments:
    """Of rows 100 to 129, in batches."""
    sums = PartMoments.none(rows, layers)
    for start, stop in zip([0, *cuts], [*cuts, 30], strict=True):
        sums = sums.absorb([rows.select(range(start, stop))], range(100 + start, 100 + stop))
    return sums


def test_each_part_is_the_moments_of_its_rows(rows):
    found = parts_of(rows, [4, 11]).moments()
    own = [plain_part(position) for position in range(100, 130)]
    assert len(found) == len(set(own)) < 30
    for part, moments in zip(sorted(set(own)), found, strict=True):
        members = [row for row, each in enumerate(own) if each == part]
        expected = Moments.from_contributions(rows.select(members), layers=[1, 2])
        assert (moments.n, moments.layers, moments.unit) == (len(members), (1, 2), "cosine")
        torch.testing.assert_close(moments.sum_y, expected.sum_y)
        torch.testing.assert_close(moments.sum_yy, expected.sum_yy)


def test_all_parts_together_are_the_moments_of_all_rows(rows):
    whole = Moments.from_contributions(rows, layers=[1, 2])
    first, *others = parts_of(rows, [4, 11]).moments()
    for each in others:
        first += each
    assert (first.n, first.layers, first.noise) == (whole.n, whole.layers, whole.noise)
    torch.testing.assert_close(first.sum_y, whole.sum_y, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(first.sum_yy, whole.sum_yy, rtol=1e-13, atol=1e-15)


def test_batches_and_merging_make_no_difference(rows):
    whole = parts_of(rows, [])
    layers = (1, 2)
    batches = [rows.select(range(9)), rows.select(range(9, 30))]
    together = PartMoments.none(rows, layers).absorb(batches, range(100, 130))
    halves = [
        PartMoments.none(rows, layers).absorb([rows.select(some)], [100 + row for row in some])
        for some in ([*range(0, 30, 2)], [*range(1, 30, 2)])
    ]
    for found in (together, halves[0].absorb_sums(halves[1])):
        assert torch.equal(found.n, whole.n)
        torch.testing.assert_close(found.sum_y, whole.sum_y)
        torch.testing.assert_close(found.sum_yy, whole.sum_yy)
    with pytest.raises(ValueError, match="do not add"):
        whole.absorb_sums(parts_of(rows, [], layers=(2,)))


def test_a_file_holds_half_of_each_product(rows, tmp_path):
    sums = parts_of(rows, [7], layers=(0, 1, 2))
    sums.save(tmp_path / "parts.safetensors")
    loaded = PartMoments.load(tmp_path / "parts.safetensors")
    assert torch.equal(loaded.sum_yy.tril(), sums.sum_yy.tril())
    assert torch.equal(loaded.sum_yy, loaded.sum_yy.mT)
    torch.testing.assert_close(loaded.sum_yy, sums.sum_yy, rtol=1e-13, atol=1e-15)
    assert torch.equal(loaded.sum_y, sums.sum_y)
    assert (loaded.unit, loaded.noise, loaded.layers) == (sums.unit, sums.noise, sums.layers)
    assert loaded.moments()[0].layers is None
    assert (tmp_path / "parts.safetensors").stat().st_size < 0.7 * parts_bytes(3, 3, 4, 12)
    broken = {**sums.to_tensors(), "layers": torch.tensor([0, 1])}
    with pytest.raises(ValueError, match="do not fit"):
        PartMoments.from_tensors(broken)
