"""Each formula against a plain loop over images in float64."""

from __future__ import annotations

from itertools import combinations

import jaxtyping
import numpy as np
import pytest
import torch
from sklearn.feature_selection import f_classif

from clip_lens_plugin import eta_squared
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


LABELS = [4, 0, 4, -1, 0, 7, 7, 0, 4]
"""Of nine images: three classes, whose numbers are not in a row, and one image that is of none."""


def plain_eta(values: np.ndarray) -> float:
    """η² of vectors [images, coordinates], image by image."""
    known = [(x, label) for x, label in zip(values, LABELS, strict=True) if label >= 0]
    mean = sum(x for x, _ in known) / len(known)
    between = 0.0
    for _, label in known:
        own = [x for x, other in known if other == label]
        between += float(np.square(sum(own) / len(own) - mean).sum())
    return between / sum(float(((x - mean) ** 2).sum()) for x, _ in known)


def test_eta_squared_is_between_over_total() -> None:
    x = numbers(9, H, K) + 5
    a = x.numpy()
    check(eta_squared(x, LABELS), (H, K), lambda h, k: plain_eta(a[:, h, [k]]))
    for dim in (2, -1):
        check(eta_squared(x, LABELS, dim), (H,), lambda h: plain_eta(a[:, h]))
    check(eta_squared(x, LABELS, 1), (K,), lambda k: plain_eta(a[:, :, k]))
    check(eta_squared(x[:, 0, 0], LABELS), (), lambda: plain_eta(a[:, 0, [0]]))


def test_it_is_the_f_test_of_scikit_learn() -> None:
    """η² = F (k − 1) / (F (k − 1) + n − k), of k classes and n images."""
    labels = torch.arange(40) % 5
    x = numbers(40, 6) + 0.4 * labels[:, None] * torch.arange(6)
    F, _ = f_classif(x.numpy(), labels.numpy())
    torch.testing.assert_close(eta_squared(x, labels), torch.from_numpy(F * 4 / (F * 4 + 40 - 5)))


def test_it_is_all_or_nothing_at_its_ends() -> None:
    labels = [0, 0, 1, 1]
    alike, even, constant = [3.0, 3.0, 0.1, 0.1], [0.1, 5.0, 5.0, 0.1], [0.1, 0.1, 0.1, 0.1]
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        eta = eta_squared(torch.tensor([alike, even, constant], dtype=dtype).T, labels)
        assert eta[:2].tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
        assert float(eta[0]) <= 1.0
        assert bool(eta[2].isnan())
    off = torch.tensor([0.1, 0.1 + 1e-8, 0.1, 0.1 - 1e-8])[:, None]  # As float32 rounds.
    assert bool(eta_squared(off, labels).isnan().all())


def test_shuffled_labels_give_chance() -> None:
    x, labels = numbers(12, 300), torch.arange(12) % 3
    shuffled = [labels[torch.randperm(12, generator=torch.Generator().manual_seed(seed))] for seed in range(30)]
    mean = torch.stack([eta_squared(x, each) for each in shuffled]).mean()
    assert float(mean) == pytest.approx((3 - 1) / (12 - 1), rel=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": torch.tensor(1.0)}, r"one row per image, got torch.float32 of shape \[\]"),
        ({"values": torch.ones(4, dtype=torch.int64)}, "floating-point numbers"),
        ({"values": torch.full((4, 2), torch.nan)}, "NaN or infinity"),
        ({"labels": [0, 1, 0]}, "as many labels"),
        ({"labels": [3, 3, -1, 3]}, "two or more classes are needed, got labels of 1"),
        ({"labels": [-1] * 4}, "got labels of 0"),
        ({"labels": [0.0, 1.0, 0.0, 1.0]}, "whole numbers"),
        *(({"dim": dim}, r"after that of the images; these are \[4, 2\]") for dim in (0, 2, -2, -3)),
    ],
)
def test_what_has_no_shares_is_refused(change, message, monkeypatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # As outside of the tests.
    given = {"values": numbers(4, 2), "labels": [0, 1, 0, 1], **change}
    with pytest.raises(ValueError, match=message):
        eta_squared(**given)


def test_rows_without_a_class_may_hold_anything() -> None:
    x = numbers(9, K)
    changed = x.clone()
    changed[3] = torch.inf
    assert torch.equal(eta_squared(x, LABELS), eta_squared(changed, LABELS))
