"""Each formula against a plain loop over images in float64."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.statistics.class_variance import distances_of_classes, shares_of_classes, sums_by_class
from tests.decomposition.test_equations import E, H, K
from tests.support.loops import check, numbers


def test_sums_by_class() -> None:
    x, classes = numbers(7, H, K), torch.tensor([2, 0, 2, 3, 0, 0, 2])
    a = x.numpy()
    found = sums_by_class(x, classes, 4)
    check(found, (4, H, K), lambda c, h, k: sum(a[b, h, k] for b in range(7) if classes[b] == c))


def classes_and_map() -> tuple[list[np.ndarray], np.ndarray, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coordinates of images by class, the head's map, and the sums, numbers of images and form that follow."""
    y, M = numbers(9, K), numbers(K, E)
    by_class = [y.numpy()[:2], y.numpy()[2:3], y.numpy()[3:]]
    sums = torch.stack([torch.from_numpy(each.sum(0)) for each in by_class])
    return by_class, M.numpy(), sums, torch.tensor([2.0, 1.0, 6.0]).double(), equations.gram(M)


def test_distances_of_classes() -> None:
    by_class, M, sums, counts, form = classes_and_map()
    mean = np.concatenate(by_class).mean(0) @ M
    found = distances_of_classes(sums, counts, form)
    check(found, (3,), lambda c: sum((each - m) ** 2 for each, m in zip(by_class[c].mean(0) @ M, mean, strict=True)))


def test_shares_of_classes() -> None:
    """Between over total, image by image; and what it is on the average over every way to deal the labels out."""
    by_class, M, _, counts, form = classes_and_map()
    written = np.concatenate(by_class) @ M
    total = sum(float(((each - written.mean(0)) ** 2).sum()) for each in written)
    variance = torch.tensor(total / 9, dtype=torch.float64)

    def of(rows: list[list[int]]) -> torch.Tensor:
        sums = torch.stack([torch.from_numpy(np.concatenate(by_class)[own].sum(0)) for own in rows])
        distances = distances_of_classes(sums, counts, form)
        return shares_of_classes(distances, counts, variance)

    def between(c: int) -> float:
        own = by_class[c] @ M
        return sum(float(((own.mean(0) - written.mean(0)) ** 2).sum()) for _ in own) / total

    check(of([[0, 1], [2], [3, 4, 5, 6, 7, 8]]), (3,), between)
    dealt = [
        of([list(pair), [one], [each for each in range(9) if each not in (*pair, one)]])
        for pair in combinations(range(9), 2)
        for one in range(9)
        if one not in pair
    ]
    average = torch.stack(dealt).mean(0)
    torch.testing.assert_close(average, torch.tensor([7 / 9, 8 / 9, 3 / 9], dtype=torch.float64) / 8)
    assert float(average.sum()) == pytest.approx((3 - 1) / (9 - 1))
