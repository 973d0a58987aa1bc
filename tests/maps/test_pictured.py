"""A map knows its pictures, through everything that is made of it."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import Compose

from clip_lens_plugin import HookedCLIP, PatchTextMap, patch_text_map
from clip_lens_plugin.images.preprocessed import shown_pictures
from clip_lens_plugin.maps.crop_geometry import Geometry, Placement
from clip_lens_plugin.maps.patch_text import head_text_scores
from clip_lens_plugin.maps.pictured import MOST_REMEMBERED, Pictured, all_placed, refuse_other_shape
from clip_lens_plugin.scenes import draw, sample_scenes

TEXTS = ["red shape", "a circle"]
WIDE, TALL = (draw(scene).resize(size) for scene, size in zip(sample_scenes(2, 5), ((120, 60), (50, 90)), strict=True))


@pytest.fixture(scope="module")
def scenes() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes")


@pytest.fixture(scope="module")
def maps(scenes) -> PatchTextMap:
    return patch_text_map(scenes, [WIDE, TALL], TEXTS)


def placed(maps: PatchTextMap, pictures=None):
    return all_placed(maps.of_each_image, maps.grid_size, pictures)


def test_photographs_are_placed_where_the_input_lies(scenes, maps):
    for (picture, placement), photograph in zip(placed(maps), (WIDE, TALL), strict=True):
        assert picture.size == photograph.size
        assert placement == Placement.of(scenes.preprocess, photograph.size, (56, 56))
    given = placed(maps, [TALL, WIDE])
    assert [placement.photo_size for _, placement in given] == [TALL.size, WIDE.size]


def test_pixels_are_shown_as_the_model_sees_them(scenes):
    pixels = scenes.prepare([WIDE, TALL])
    ((seen, placement), _) = placed(patch_text_map(scenes, pixels, TEXTS))
    assert placement is None
    np.testing.assert_array_equal(np.asarray(seen), np.asarray(shown_pictures(pixels, scenes.preprocess)[0]))
    many = pixels[:1].expand(MOST_REMEMBERED + 1, -1, -1, -1)
    with pytest.raises(ValueError, match="do not know the pictures"):
        Pictured().placed((7, 7))
    assert {each.photograph for each in patch_text_map(scenes, many, TEXTS[:1]).of_each_image} == {None}


def test_what_is_made_of_a_map_knows_its_pictures_too(scenes, maps):
    assert [size for size, _ in _sizes(maps.select([1]))] == [TALL.size]
    assert [size for size, _ in _sizes(PatchTextMap.joined([maps, maps.select([0])]))] == [
        WIDE.size, TALL.size, WIDE.size,
    ]  # fmt: skip
    assert _sizes(maps.contrast()) == _sizes(maps)
    for copied in (copy.deepcopy(maps), pickle.loads(pickle.dumps(maps))):
        assert _sizes(copied) == _sizes(maps)
    one = head_text_scores(scenes, TALL, TEXTS)
    assert _sizes(one.map([(4, 1)])) == [_sizes(maps)[1]]
    mixed = PatchTextMap.joined([maps.select([1]), patch_text_map(scenes, scenes.prepare(WIDE), TEXTS)])
    assert _sizes(mixed) == [_sizes(maps)[1], ((56, 56), None)]
    by_hand = replace(maps, pictured=None)
    with pytest.raises(ValueError, match="do not know the pictures"):
        placed(PatchTextMap.joined([maps, by_hand]))


def test_joined_maps_of_several_models_stay_on_their_own_models_crop(scenes, maps):
    """Of the same number of patches and another preprocessing: one crops the middle, the other squashes the whole."""
    squashing = copy.deepcopy(scenes)
    squashing.preprocess = image_transform(56, is_train=False, resize_mode="squash")
    both = PatchTextMap.joined([maps, patch_text_map(squashing, [WIDE, TALL], TEXTS)])
    placements = [placement for _, placement in placed(both)]
    for model, photograph, found in zip([scenes] * 2 + [squashing] * 2, (WIDE, TALL) * 2, placements, strict=True):
        assert found == Placement.of(model.preprocess, photograph.size, (56, 56))
    assert placements[0].box != placements[2].box == (0, 0, *WIDE.size)
    assert [placement for _, placement in placed(both.select([3, 0]), [TALL, WIDE])] == [placements[3], placements[0]]
    with pytest.raises(ValueError, match="4 images need as many pictures, got 1"):
        placed(both, [WIDE])


def test_a_photograph_is_not_taken_for_the_input_where_nobody_knows_where_that_lies(scenes):
    """A square one could be: the map lies on what the model saw, also where that differs each time."""
    turning, square = copy.deepcopy(scenes), WIDE.resize((80, 80))
    turned: list[Image.Image] = []

    def turn(picture: Image.Image) -> Image.Image:
        if picture.size != square.size:  # Black and white, of which the model's range of pixels is known.
            return picture
        turned.append(picture.rotate(90 * (1 + len(turned))))
        return turned[-1]

    turning.preprocess = Compose([turn, *scenes.preprocess.transforms])
    both = patch_text_map(turning, square, TEXTS), head_text_scores(turning, square, TEXTS).map()
    for maps, made in zip(both, turned, strict=True):  # Prepared once for each.
        (seen, placement), expected = placed(maps)[0], shown_pictures(scenes.prepare(made), scenes.preprocess)[0]
        assert placement is None
        np.testing.assert_array_equal(np.asarray(seen), np.asarray(expected))
    turning.preprocess = Compose([turn, *scenes.preprocess.transforms[:-1]])  # Without Normalize nobody can tell.
    maps = patch_text_map(turning, square, TEXTS)
    with pytest.raises(ValueError, match=r"Where the model's input lies on 'image 0' is not known"):
        placed(maps)
    assert placed(maps, [square]) == [(square, None)]


def test_a_photograph_that_is_gone_is_named(scenes, tmp_path):
    WIDE.save(tmp_path / "a.png")
    maps = patch_text_map(scenes, tmp_path / "a.png", TEXTS)
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match=r"The photograph /.*a\.png that this map is of cannot be opened any more: No"):
        placed(maps)
    assert "cannot be opened any more" in maps._repr_html_()
    assert placed(maps, [WIDE])[0][1] is not None


def _sizes(maps: PatchTextMap):
    return [(picture.size, placement) for picture, placement in placed(maps)]


def test_tables_and_words(maps):
    table = maps.to_dataframe()
    assert list(table.columns) == ["image", "name", "text", "row", "column", "score"]
    assert len(table) == 2 * 2 * (49 + 1)
    sums = table.groupby(["image", "text"], sort=False)["score"].sum()
    torch.testing.assert_close(torch.tensor(sums.to_numpy()).reshape(2, 2).float(), maps.scores)
    chosen = table[(table["image"] == 1) & (table["text"] == TEXTS[1]) & (table["row"] == 2) & (table["column"] == 5)]
    assert chosen["score"].item() == pytest.approx(float(maps.values[1, 1, 2, 5]))
    assert repr(maps).startswith("PatchTextMap(images=2, texts=['red shape', 'a circle'], patches=7 x 7, scores from")


def test_a_picture_that_cannot_be_the_input_is_refused():
    for size in ((224, 224), (448, 448), (7, 7)):
        refuse_other_shape(Image.new("RGB", size), (7, 7))
    for size in ((300, 224), (224, 300), (640, 480)):
        with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels, the map 7 x 7"):
            refuse_other_shape(Image.new("RGB", size), (7, 7))


def test_an_unknown_geometry_is_none():
    assert Geometry.of(image_transform(32, is_train=True), (32, 32)) is None
    assert Geometry.of(None, (32, 32)) is None
    known = Geometry.of(image_transform(32, is_train=False), (32, 32))
    assert known is not None
    assert known.placement((64, 48)) == Placement.of(image_transform(32, is_train=False), (64, 48), (32, 32))
