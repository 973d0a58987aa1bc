"""Drawn scenes as a set of masked images."""

from __future__ import annotations

import numpy as np
import pytest

from clip_lens_plugin.scenes import sample_pairs, sample_scenes
from clip_lens_plugin.segmentation import DrawnObjects, PartOfMasked, SegmentationDataset


def test_one_object_each_is_the_scenes_with_one_shape() -> None:
    drawn = DrawnObjects(6, seed=4)
    scenes = [scene for scene in sample_scenes(60, seed=4) if scene.count == "one"][:6]
    assert isinstance(drawn, SegmentationDataset)
    assert [image.text for image in drawn] == [f"{scene.colour} {scene.shape}" for scene in scenes]
    assert len(drawn.texts) == len(set(drawn.texts)) == 48
    assert {image.text for image in drawn} <= set(drawn.texts)
    assert all(image.other is None and image.mask.any() for image in drawn)
    assert [image.name for image in DrawnObjects(3, seed=4)] == [image.name for image in drawn][:3]


def test_of_two_objects_each_is_named_once_on_the_same_picture() -> None:
    drawn = DrawnObjects(5, objects=2, seed=4)
    assert len(drawn) == 10
    for i, pair in enumerate(sample_pairs(5, seed=4)):
        first, second = drawn[2 * i], drawn[2 * i + 1]
        assert np.array_equal(np.asarray(first.picture), np.asarray(second.picture))
        assert np.array_equal(first.mask, second.other)
        assert np.array_equal(second.mask, first.other)
        assert [first.text, second.text] == [f"{scene.colour} {scene.shape}" for scene in pair]
        assert first.group == second.group == f"scene {i}"
        assert first.name != second.name


def test_a_part_is_evenly_spaced_and_keeps_all_texts() -> None:
    drawn = DrawnObjects(9)
    part = PartOfMasked(drawn, 3)
    assert [image.name for image in part] == ["scene 0", "scene 3", "scene 6"]
    assert part.texts == drawn.texts
    assert part.title.endswith("3 of 9")
    for wrong in (0, 3):
        with pytest.raises(ValueError, match="1 or 2 objects"):
            DrawnObjects(3, objects=wrong)
