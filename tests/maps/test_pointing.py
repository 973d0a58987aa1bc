"""Maps of the embedded model lie on the shape that the text names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lens_plugin import HookedCLIP
from tests.benchmarks.pointing import localisation, maps_of, masks, single_shape_scenes


def test_measures_against_maps_whose_place_is_known():
    covered = np.zeros((2, 8, 8), dtype=bool)
    covered[0, :4, :4] = True  # the first of four patches
    covered[1, 4:6, 4:] = True  # the upper half of the last one, without its centre's row
    maps = torch.tensor([[[3.0, -9.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 3.0]]])
    found = localisation(maps, covered)
    assert found.mass == pytest.approx((3 / 4 + 3 / 8) / 2)
    assert found.touched_mass == pytest.approx(3 / 4)
    assert (found.pointing.value, found.touching.value) == (0.5, 1.0)


def test_patch_text_maps_lie_on_the_shape():
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    scenes = single_shape_scenes(40, seed=11)
    covered = masks(scenes)
    found = {name: localisation(maps, covered) for name, maps in maps_of(model, scenes).items()}
    map_, noise = found["patch-text map, all heads"], found["random map"]
    assert map_.mass > 0.3 > 3 * noise.mass
    assert map_.touched_mass > 0.7 > 3 * noise.touched_mass
    assert map_.pointing.value > 0.55 > 3 * noise.pointing.value
    assert map_.touching.value > 0.9
    assert map_.mass > found["raw attention, all layers"].mass
