"""Figures over a set, against plain loops over the images and numpy's own resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clip_lens_plugin.segmentation.figures import FIGURES, estimates, figures_of, sums_of_images

COUNTS = ("true_positive", "false_positive", "false_negative", "true_negative")


def table(seed: int, n: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    counts = {name: rng.integers(1, 40, n) for name in COUNTS}
    precision = rng.random(n)
    precision[0] = np.nan
    other = rng.random(n)
    other[1] = np.nan
    named = rng.random(n)
    named[2] = other[2]
    return pd.DataFrame(
        {
            **counts,
            "average_precision": precision,
            "both_classes_precision": rng.random(n),
            "named": named,
            "other": other,
        }
    )


def plain(rows: Sequence[dict[Any, float]]) -> dict[str, float]:
    correct = scored = 0
    inter, union = [0, 0], [0, 0]
    ap, both, gaps, higher = [], [], [], []
    for row in rows:
        tp, fp, fn, tn = (row[name] for name in COUNTS)
        correct, scored = correct + tp + tn, scored + tp + fp + fn + tn
        inter = [inter[0] + tp, inter[1] + tn]
        union = [union[0] + tp + fp + fn, union[1] + tn + fp + fn]
        both.append(row["both_classes_precision"])
        if not math.isnan(row["average_precision"]):
            ap.append(row["average_precision"])
        if not math.isnan(row["other"]):
            gaps.append(row["named"] - row["other"])
            higher.append(1.0 if gaps[-1] > 0 else 0.5 if gaps[-1] == 0 else 0.0)
    iou = [i / u for i, u in zip(inter, union, strict=True)]
    return {
        "average_precision": sum(ap) / len(ap),
        "miou": sum(iou) / 2,
        "pixel_accuracy": correct / scored,
        "both_classes_precision": sum(both) / len(both),
        "named_minus_other": sum(gaps) / len(gaps),
        "named_higher": sum(higher) / len(higher),
    }


def test_figures_are_those_of_a_plain_loop() -> None:
    rows = table(3)
    found = figures_of(sums_of_images(rows).sum(0))
    assert {name: float(value) for name, value in found.items()} == pytest.approx(plain(rows.to_dict("records")))
    assert list(found) == list(FIGURES)


def test_a_class_that_is_nowhere_is_left_out_of_the_mean() -> None:
    rows = table(3)[:2].assign(true_positive=0, false_positive=0, false_negative=0, average_precision=np.nan)
    found = figures_of(sums_of_images(rows).sum(0))
    assert found["miou"] == 1.0
    assert math.isnan(found["average_precision"])


def test_intervals_are_of_groups_and_differences_paired() -> None:
    rows = {"own": table(3), "same": table(3), "worse": table(3)}
    rows["worse"] = rows["worse"].assign(average_precision=rows["own"]["average_precision"] - 0.1)
    groups = np.repeat(np.arange(6), 2)
    found = estimates({name: sums_of_images(each) for name, each in rows.items()}, groups, "own", seed=0)
    for name, each in rows.items():
        assert {f: found[name][f].value for f in FIGURES} == pytest.approx(plain(each.to_dict("records")))
    own, same, worse = (found[name]["average_precision"] for name in rows)
    assert (same.difference, same.difference_low, same.difference_high) == (0.0, 0.0, 0.0)
    ends = (worse.difference, worse.difference_low, worse.difference_high)
    assert ends == pytest.approx((-0.1, -0.1, -0.1))  # the same images in each sample, so no spread
    drawn = []
    rng, records = np.random.default_rng(1), rows["own"].to_dict("records")
    for _ in range(1500):  # the same by hand, group by group
        taken = [row for g in rng.integers(0, 6, 6) for row in records[2 * g : 2 * g + 2]]
        drawn.append(plain(taken)["pixel_accuracy"])
    low, high = np.quantile(drawn, [0.025, 0.975])
    interval = found["own"]["pixel_accuracy"]
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.15 * (high - low))
    assert own.low < own.value < own.high
