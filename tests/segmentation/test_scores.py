"""Scores of one map, against scikit-learn, a plain statement of each figure, and maps whose scores are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from clip_lens_plugin.segmentation.scores import average_precision, both_classes_precision, image_scores, scaled

RNG = np.random.default_rng(5)


def plain_precision(truth: np.ndarray, values: np.ndarray) -> float:
    """Threshold by threshold, from the greatest value down."""
    found, before = 0.0, 0.0
    for threshold in sorted(set(values.tolist()), reverse=True):
        taken = [bool(t) for t, v in zip(truth, values, strict=True) if v >= threshold]
        recall, precision = sum(taken) / int(truth.sum()), sum(taken) / len(taken)
        found, before = found + (recall - before) * precision, recall
    return found


@pytest.mark.parametrize("values", [RNG.random(300), RNG.integers(0, 6, 300) / 5, np.zeros(300)], ids="abc")
def test_average_precision_is_scikit_learns_and_the_definition(values: np.ndarray) -> None:
    truth = RNG.random(300) < 0.2
    found = average_precision(truth, values)
    assert found == pytest.approx(average_precision_score(truth, values), abs=1e-12)
    assert found == pytest.approx(plain_precision(truth, values), abs=1e-12)
    both = np.concatenate([truth, ~truth]), np.concatenate([values, 1 - values])
    expected = average_precision_score(*both) if values.any() else 0.5  # the authors' code has 0 in both lists
    assert both_classes_precision(truth, values) == pytest.approx(expected, abs=1e-12)


def test_precision_without_anything_true_is_unknown() -> None:
    assert math.isnan(average_precision(np.zeros(4, dtype=bool), np.arange(4.0)))


def test_counts_and_means_are_those_of_a_plain_loop() -> None:
    found, mask, other = RNG.normal(size=(9, 7)), RNG.random((9, 7)) < 0.3, RNG.random((9, 7)) < 0.2
    found[:, :2], void = np.nan, RNG.random((9, 7)) < 0.1
    seen = [(y, x) for y in range(9) for x in range(2, 7)]
    low, high = min(found[at] for at in seen), max(found[at] for at in seen)
    relative = {at: (found[at] - low) / (high - low) for at in seen}
    mean = sum(relative.values()) / len(relative)
    cells = {"true_positive": 0, "false_positive": 0, "false_negative": 0, "true_negative": 0}
    for at in seen:
        if not void[at]:
            right = (relative[at] > mean) == bool(mask[at])
            cells[f"{'true' if right else 'false'}_{'positive' if relative[at] > mean else 'negative'}"] += 1
    scores = image_scores(found, mask, void)
    assert {name: getattr(scores, name) for name in cells} == cells
    assert scores.unseen == 18
    assert scores.void == void[:, 2:].sum()
    kept = [at for at in seen if not void[at]]
    expected = average_precision_score([mask[at] for at in kept], [found[at] for at in kept])
    assert scores.average_precision == pytest.approx(expected)
    assert math.isnan(scores.named)
    mask[:, :2] = other[:, :2] = False
    scores = image_scores(found, mask, other=other)
    assert scores.named == pytest.approx(np.mean([relative[at] for at in seen if mask[at]]))
    assert scores.other == pytest.approx(np.mean([relative[at] for at in seen if other[at]]))
    other[0, 0] = True  # where the model saw nothing
    assert math.isnan(image_scores(found, mask, other=other).other)


def test_a_map_of_the_masks_shape_is_right_everywhere_and_its_opposite_nowhere() -> None:
    mask = RNG.random((6, 6)) < 0.4
    right, wrong = image_scores(mask * 2.0 - 5.0, mask), image_scores(-1.0 * mask, mask)
    assert (right.true_positive, right.true_negative, right.average_precision) == (mask.sum(), (~mask).sum(), 1.0)
    assert right.both_classes_precision == 1.0
    assert (wrong.true_positive, wrong.true_negative) == (0, 0)
    assert wrong.average_precision == pytest.approx(mask.mean())  # every object pixel comes last, all at once


def test_masks_of_one_class_and_maps_of_one_value() -> None:
    rising = np.arange(12.0).reshape(3, 4)
    for mask in (np.zeros((3, 4), dtype=bool), np.ones((3, 4), dtype=bool)):
        scores = image_scores(rising, mask)
        assert math.isnan(scores.average_precision)
        assert not math.isnan(scores.both_classes_precision)
    half = rising < 6
    flat = image_scores(np.full((3, 4), 7.0), half)
    assert (flat.true_positive, flat.false_positive) == (0, 0)  # nothing lies above the mean
    assert (flat.average_precision, flat.both_classes_precision) == (0.5, 0.5)
    nothing = image_scores(np.full((3, 4), np.nan), half)
    assert nothing.unseen == 12
    assert math.isnan(nothing.both_classes_precision)


def test_the_positive_part_moves_the_mean() -> None:
    values = np.array([[-8.0, 0.0, 1.0, 3.0]])
    mask = np.array([[False, True, True, True]])
    assert image_scores(values, mask).true_positive == 3
    assert image_scores(values, mask, positive_part=True).true_positive == 1
    assert scaled(values[0], positive_part=True).tolist() == [0.0, 0.0, pytest.approx(1 / 3), 1.0]
