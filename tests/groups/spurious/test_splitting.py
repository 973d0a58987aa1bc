"""Three parts of the images: disjoint, every group in each, no image in two."""

from __future__ import annotations

import numpy as np
import pytest

from clip_lens_plugin import Groups
from clip_lens_plugin.groups.four import four_groups
from clip_lens_plugin.groups.spurious.splitting import parted


def four(sizes=(40, 12, 14, 44), left_out=6):
    number = np.concatenate([np.repeat(np.arange(4), sizes), np.full(left_out, -1)])
    number = np.random.default_rng(1).permutation(number)
    return four_groups(Groups.of(np.where(number < 0, -1, number // 2), np.where(number < 0, -1, number % 2)))


def test_drawn_parts_are_disjoint_and_stratified():
    groups = four()
    rows = parted(groups, None, None, seed=0)
    together = np.concatenate(list(rows.values()))
    assert sorted(together) == np.flatnonzero(groups.number >= 0).tolist()
    assert groups.counts(rows["means"]).tolist() == [8, 2, 3, 9]
    assert groups.counts(rows["validation"]).tolist() == [12, 4, 4, 13]
    again, other = parted(groups, None, None, seed=0), parted(groups, None, None, seed=1)
    assert all(np.array_equal(rows[part], again[part]) for part in rows)
    assert not np.array_equal(rows["test"], other["test"])
    smallest = parted(four((3, 3, 3, 3)), None, None, seed=0)
    assert {part: len(each) for part, each in smallest.items()} == {"means": 4, "validation": 4, "test": 4}


def test_given_parts_are_kept():
    groups = four()
    given = np.array(["means", "validation", "test", ""], dtype=object)[np.arange(len(groups.number)) % 4].tolist()
    rows = parted(groups, given, None, seed=0)
    for part, each in rows.items():
        assert all(given[row] == part and groups.number[row] >= 0 for row in each)
        assert len(each) == sum(g == part and n >= 0 for g, n in zip(given, groups.number, strict=True))


def test_an_image_that_occurs_twice_is_refused_by_name():
    groups = four()
    names = [f"{i}.png" for i in range(len(groups.number))]
    first, second = np.flatnonzero(groups.number >= 0)[[3, 30]]
    left_out = int(np.flatnonzero(groups.number < 0)[0])
    names[left_out] = names[first]
    parted(groups, None, names, seed=0)
    names[second] = names[first]
    with pytest.raises(ValueError, match=rf"1 images occur more than once, the first '{first}.png'"):
        parted(groups, None, names, seed=0)


def test_a_part_without_a_group_is_named():
    groups = four()
    given = ["validation" if n == 1 else ("means", "validation", "test")[i % 3] for i, n in enumerate(groups.number)]
    with pytest.raises(ValueError, match=r"No image of the means split is in the group \(0, 1\)"):
        parted(groups, given, None, seed=0)
    with pytest.raises(ValueError, match=r"The group \(0, 1\) has 2 images"):
        parted(four((9, 2, 9, 9)), None, None, seed=0)
