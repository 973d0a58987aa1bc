"""Scenes as a data set: the scenes of the generator itself, in order, with the attribute's value as the label."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from clip_lens_plugin.scenes.attributes import ATTRIBUTES, sample_scenes
from clip_lens_plugin.scenes.captions import caption
from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.scenes.drawing import draw


def same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def test_a_scene_depends_on_seed_and_position_alone():
    short, long, other = ScenesDataset(3, 5, "shape"), ScenesDataset(9, 5), ScenesDataset(3, 6)
    for i in (2, 0, 1, 2):
        assert same(short[i][0], long[i])
        assert not same(long[i], other[i])
    assert not same(long[0], long[1])


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_pictures_and_labels_are_those_of_the_scenes(attribute):
    """The label is counted here by the value's name; without a position it is -1."""
    data, scenes = ScenesDataset(40, 2, attribute), sample_scenes(40, seed=2)
    for i, scene in enumerate(scenes):
        picture, label = data[i]
        value = getattr(scene, attribute)
        assert same(picture, draw(scene))
        assert label == (-1 if value is None else ATTRIBUTES[attribute].index(value))
        if value is None:
            assert scene.count != "one"
    labels = {data[i][1] for i in range(40)}
    assert (-1 in labels) == (attribute == "position")
    assert len(labels) > 2


def test_a_picture_that_was_changed_comes_back_as_it_was():
    data = ScenesDataset(2, 11)
    data[1].paste((0, 0, 0), (0, 0, 56, 56))
    assert same(data[1], draw(sample_scenes(2, seed=11)[1]))


def test_without_an_attribute_an_item_is_the_picture_alone():
    data = ScenesDataset(2, 0)
    assert isinstance(data[0], Image.Image)
    assert data.classes is None


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_classes_say_each_value_in_order(attribute):
    classes = ScenesDataset(1, 0, attribute).classes
    assert classes == [caption({attribute: value}) for value in ATTRIBUTES[attribute]]
    assert len(set(classes)) == len(ATTRIBUTES[attribute])


def test_it_ends_after_n_scenes():
    data = ScenesDataset(3, 0, "colour")
    assert len(data) == 3
    assert len(list(data)) == 3
    for position in (3, -4, 100):
        with pytest.raises(IndexError, match=rf"no scene {position}: there are 3"):
            data[position]
    assert same(data[-1][0], data[2][0])
    assert list(ScenesDataset(0, 0)) == []


def test_a_loader_gives_every_scene_once_and_a_copy_is_the_same():
    data = ScenesDataset(5, 1, "size")
    loaded = [item for batch in DataLoader(data, batch_size=2, collate_fn=list) for item in batch]
    copied = pickle.loads(pickle.dumps(data))
    for i in range(5):
        for picture, label in (loaded[i], copied[i]):
            assert same(picture, data[i][0])
            assert label == data[i][1]
    assert repr(copied) == repr(data) == "ScenesDataset(n=5, seed=1, attribute='size')"


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="n must be a whole number of at least 0, got -1"):
        ScenesDataset(-1, 0)
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, got -2"):
        ScenesDataset(1, -2)
    with pytest.raises(ValueError, match=r"attribute must be 'colour'.*got 'color'"):
        ScenesDataset(1, 0, "color")
