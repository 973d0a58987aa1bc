"""Scenes are what they say they are."""

from __future__ import annotations

import numpy as np
import pytest

from clip_lens_plugin.scenes.attributes import ATTRIBUTES, SIDE, sample_pairs, sample_scenes
from clip_lens_plugin.scenes.drawing import BACKGROUNDS, COLOURS, draw, draw_together, shape_mask, shape_masks

SCENES = sample_scenes(150, seed=3)


def test_same_seed_same_scenes_and_a_longer_list_begins_with_a_shorter():
    assert sample_scenes(20, seed=3) == SCENES[:20]
    assert sample_scenes(20, seed=4) != SCENES[:20]
    assert np.array_equal(np.asarray(draw(SCENES[0])), np.asarray(draw(SCENES[0])))
    with pytest.raises(ValueError, match="at least 0"):
        sample_scenes(-1, seed=0)


def test_every_value_occurs_and_only_single_shapes_have_a_position():
    for name, values in ATTRIBUTES.items():
        assert {scene.attributes().get(name) for scene in SCENES} >= set(values)
    for scene in SCENES:
        assert (scene.position is None) == (scene.count != "one")
        assert len(scene.placements) == ATTRIBUTES["count"].index(scene.count) + 1
        assert [ATTRIBUTES[n][c] for n, c in zip(ATTRIBUTES, scene.codes(), strict=True) if c >= 0] == list(
            scene.attributes().values()
        )


@pytest.mark.parametrize("scene", SCENES[:40], ids=range(40))
def test_pixels_have_the_named_colour_background_and_place(scene):
    pixels, mask = np.asarray(draw(scene), dtype=float), shape_mask(scene)
    assert pixels.shape == (SIDE, SIDE, 3)

    def nearest(colour, table):
        return min(table, key=lambda name: np.abs(np.array(table[name]) - colour).sum())

    assert nearest(np.median(pixels[~mask], axis=0), BACKGROUNDS) == scene.background
    if scene.texture == "plain":
        assert nearest(np.median(pixels[mask], axis=0), COLOURS) == scene.colour
    if scene.position is not None:
        rows, columns = np.nonzero(mask)
        y, x = rows.mean() / SIDE, columns.mean() / SIDE
        expected = {"top": y < 0.42, "bottom": y > 0.58, "left": x < 0.42, "right": x > 0.58}
        expected["centre"] = 0.38 < x < 0.62 and 0.38 < y < 0.62
        assert all(expected[word] for word in scene.position.split())


def test_shapes_do_not_touch_and_sizes_do_not_overlap():
    extents = {name: [] for name in ATTRIBUTES["size"]}
    for scene in SCENES:
        for i, one in enumerate(scene.placements):
            extents[scene.size].append(one.radius)
            for other in scene.placements[i + 1 :]:
                assert np.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius
    assert max(extents["small"]) < min(extents["medium"])
    assert max(extents["medium"]) < min(extents["large"])


def test_each_shape_has_a_mask_of_its_own_and_together_they_are_the_scenes():
    for scene in SCENES[:30]:
        each = shape_masks(scene)
        assert len(each) == len(scene.placements)
        assert np.array_equal(each.any(0), shape_mask(scene))
        assert (each.sum(0) <= 1).all()
        for mask, placement in zip(each, scene.placements, strict=True):
            assert mask.any()
            rows, columns = np.nonzero(mask)
            assert np.hypot(columns + 0.5 - placement.x, rows + 0.5 - placement.y).max() <= placement.radius + 1


def test_pairs_differ_in_colour_and_shape_on_one_background():
    pairs = sample_pairs(40, seed=3)
    assert sample_pairs(5, seed=3) == pairs[:5]
    for one, other in pairs:
        assert one.background == other.background
        assert one.colour != other.colour
        assert one.shape != other.shape
        assert not (shape_mask(one) & shape_mask(other)).any()
        pixels = np.asarray(draw_together([one, other]), dtype=float)
        for scene in (one, other):
            if scene.texture == "plain":
                seen = np.median(pixels[shape_mask(scene)], axis=0)
                assert min(COLOURS, key=lambda name: np.abs(np.array(COLOURS[name]) - seen).sum()) == scene.colour
    with pytest.raises(ValueError, match="on one background"):
        draw_together(SCENES[:20])
