"""Placements say where open_clip's own preprocessing puts each point of a photograph."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from open_clip import image_transform
from open_clip.transform import ResizeKeepRatio
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional

from clip_lens_plugin.maps.crop_geometry import Placement, UnknownGeometryError

PHOTOS = [
    (640, 480),
    (480, 640),
    (333, 500),
    (101, 707),
    (707, 101),
    (257, 63),
    (97, 96),
    (64, 64),
    (65, 63),
    (31, 23),
    (17, 40),
]
"""(width, height): wide, high, 1:7, odd, nearly square, smaller than the input."""

INPUTS = [64, 63, (48, 80), (80, 47)]
"""As open_clip takes them: a side, or (height, width)."""


def preprocessing(size: int | tuple[int, int], mode: str):
    """open_clip's, without normalisation, so that what comes out are colours."""
    return image_transform(size, is_train=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize_mode=mode)


def width_and_height(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[1], size[0])


def ramp(width: int, height: int, across: bool) -> tuple[Image.Image, int]:
    """A picture whose three channels sum to slope times the pixel's number, and the slope."""
    n = width if across else height
    slope = 765 // n
    total = slope * np.arange(n)
    channels = np.stack([(total - 255 * c).clip(0, 255) for c in range(3)], axis=-1).astype(np.uint8)
    line = channels[None] if across else channels[:, None]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(line, (height, width, 3)))), slope


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", INPUTS)
@pytest.mark.parametrize("photo", PHOTOS)
def test_coordinates_are_those_of_the_real_preprocessing(photo, size, mode):
    preprocess, input_size = preprocessing(size, mode), width_and_height(size)
    placement = Placement.of(preprocess, photo, input_size)
    for across in (True, False):
        picture, slope = ramp(*photo, across)
        seen = 255 * preprocess(picture).double().sum(0) / slope + 0.5  # Of the pixel's centre.
        n, along = (photo[0], input_size[0]) if across else (photo[1], input_size[1])
        scale = placement.scale_x if across else placement.scale_y
        offset = placement.offset_x if across else placement.offset_y
        expected = (np.arange(along) + 0.5 - offset) / scale
        other = input_size[1 if across else 0] // 2  # Its middle is never padding.
        found = (seen[other] if across else seen[:, other]).numpy()
        margin = 2.5 * max(1.0, 1 / scale)  # The bicubic kernel bends a ramp at the photograph's border.
        inner = (expected > margin) & (expected < n - margin)
        error = (found - expected)[inner] * scale
        assert inner.sum() >= min(n * scale, along) - 2 * margin * scale - 2
        if len(error):
            assert np.abs(error).max() < 0.45
            assert abs(error.mean()) < 0.12


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [64, (48, 80)])
@pytest.mark.parametrize("photo", [(640, 480), (101, 707), (333, 171), (40, 30)])
def test_a_white_square_lights_up_the_patch_whose_box_holds_it(photo, size, mode):
    preprocess, input_size = preprocessing(size, mode), width_and_height(size)
    placement, patch = Placement.of(preprocess, photo, input_size), 16
    grid = (input_size[1] // patch, input_size[0] // patch)
    boxes, planted = placement.patch_boxes(grid), 0
    for row, column in np.ndindex(grid):
        whole = boxes[row, column]
        left, top, right, bottom = (whole.reshape(2, 2).clip(0, photo)).ravel()
        if (right - left) * (bottom - top) < 0.25 * (whole[2] - whole[0]) * (whole[3] - whole[1]):
            continue
        planted += 1
        x, y = (left + right) / 2, (top + bottom) / 2
        pixels = np.zeros((photo[1], photo[0]), np.uint8)
        pixels[int((top + y) / 2) : math.ceil((y + bottom) / 2), int((left + x) / 2) : math.ceil((x + right) / 2)] = 255
        light = preprocess(Image.fromarray(pixels).convert("RGB")).mean(0)
        by_patch = light.unflatten(0, (grid[0], -1)).unflatten(2, (grid[1], -1)).mean((1, 3))
        assert divmod(int(by_patch.argmax()), grid[1]) == (row, column)
        nearest, bilinear = (placement.to_photo(by_patch, how) for how in ("nearest", "bilinear"))
        assert nearest.shape == bilinear.shape == pixels.shape
        assert nearest[int(y), int(x)] == np.nanmax(nearest)
        assert bilinear[int(y), int(x)] > 0.6 * np.nanmax(bilinear)  # A patch that is half padding peaks elsewhere.
    assert planted >= min(grid)


def test_box_of_a_crop_lies_inside_and_of_padding_outside():
    crop = Placement.of(preprocessing(64, "shortest"), (640, 480), (64, 64))
    assert crop.box == pytest.approx((80, 0, 560, 480), abs=5)
    assert crop.visible == crop.box
    padded = Placement.of(preprocessing(64, "longest"), (640, 480), (64, 64))
    assert padded.box == pytest.approx((0, -80, 640, 560))
    assert padded.visible == pytest.approx((0, 0, 640, 480))
    squashed = Placement.of(preprocessing((48, 80), "squash"), (640, 480), (80, 48))
    assert squashed.box == pytest.approx((0, 0, 640, 480))


def test_patch_boxes_tile_the_box_row_by_row():
    placement = Placement.of(preprocessing((48, 80), "longest"), (333, 500), (80, 48))
    boxes = placement.patch_boxes((3, 5))
    assert boxes.shape == (3, 5, 4)
    assert (*boxes[0, 0, :2], *boxes[-1, -1, 2:]) == pytest.approx(placement.box)
    np.testing.assert_allclose(boxes[:, 1:, 0], boxes[:, :-1, 2])
    np.testing.assert_allclose(boxes[1:, :, 1], boxes[:-1, :, 3])


def test_pixels_that_fill_no_patch_belong_to_none():
    """A convolution over 50 pixels with patches of 16 takes 48 of them."""
    placement = Placement.of(preprocessing(50, "squash"), (500, 500), (50, 50))
    boxes = placement.patch_boxes((3, 3))
    np.testing.assert_allclose(boxes[0, :, 2], [160, 320, 480])
    shown = placement.to_photo(torch.ones(3, 3), "nearest")
    assert np.isnan(shown[:, 480:]).all()
    assert (shown[:480, :480] == 1).all()


def test_what_is_not_on_the_input_is_nan():
    placement = Placement.of(preprocessing(64, "shortest"), (200, 100), (64, 64))
    for interpolation in ("nearest", "bilinear"):
        shown = placement.to_photo(torch.full((4, 4), 0.5), interpolation)
        assert np.isnan(shown[:, :50]).all()
        assert np.isnan(shown[:, 150:]).all()
        assert (shown[:, 50:150] == 0.5).all()
    assert not np.isnan(
        Placement.of(preprocessing(64, "longest"), (200, 100), (64, 64)).to_photo(torch.ones(4, 4), "nearest")
    ).any()


def test_bilinear_is_torchs_own_where_the_map_fills_the_photograph():
    placement = Placement.of(preprocessing((48, 80), "squash"), (130, 70), (80, 48))
    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = functional.resize(values[None], [70, 130], transforms.InterpolationMode.BILINEAR, antialias=True)[0]
    np.testing.assert_allclose(placement.to_photo(values, "bilinear"), expected.numpy(), atol=1e-9)
    expected = torch.nn.functional.interpolate(values[None, None], (70, 130), mode="nearest-exact")[0, 0]
    np.testing.assert_array_equal(placement.to_photo(values, "nearest"), expected.numpy())


def test_steps_may_be_nested_and_convert_to_rgb_by_a_function():
    def _convert_image_to_rgb(image):
        return image.convert("RGB")

    sizing = transforms.Compose([transforms.Resize([64]), transforms.CenterCrop(64)])
    nested = transforms.Compose([sizing, _convert_image_to_rgb, transforms.ToTensor()])
    assert Placement.of(nested, (97, 300), (64, 64)) == Placement.of(preprocessing(64, "shortest"), (97, 300), (64, 64))


def test_steps_may_come_in_any_order():
    first_cropped = transforms.Compose([transforms.CenterCrop(100), transforms.Resize((50, 20))])
    placement = Placement.of(first_cropped, (300, 80), (20, 50))
    assert placement.box == pytest.approx((100, -10, 200, 90))
    assert placement.visible == pytest.approx((100, 0, 200, 80))


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (transforms.RandomResizedCrop(64), "RandomResizedCrop"),
        (transforms.RandomHorizontalFlip(), "RandomHorizontalFlip"),
        (transforms.Resize(64, max_size=100), "Resize"),
        (ResizeKeepRatio(64, random_scale_prob=0.5), "ResizeKeepRatio"),
        (np.fliplr, "fliplr"),
        (None, "NoneType"),
    ],
)
def test_steps_of_unknown_geometry_are_named(step, name):
    for preprocess in (transforms.Compose([step, transforms.CenterCrop(64)]), step):
        with pytest.raises(UnknownGeometryError, match=rf"step {name} .*Known are Resize"):
            Placement.of(preprocess, (64, 64), (64, 64))


def test_bad_sizes_are_refused():
    preprocess = preprocessing(64, "longest")
    with pytest.raises(ValueError, match="whole number of at least 1"):
        Placement.of(preprocess, (0, 10), (64, 64))
    with pytest.raises(ValueError, match=r"input of \(64, 64\).*expected \(32, 64\)"):
        Placement.of(preprocess, (10, 10), (32, 64))
    with pytest.raises(ValueError, match="too narrow"):
        Placement.of(preprocess, (1000, 1), (64, 64))
    placement = Placement.of(preprocess, (10, 10), (64, 64))
    with pytest.raises(ValueError, match=r"model\.cfg\.grid_size"):
        placement.patch_boxes((0, 4))
    with pytest.raises(ValueError, match="no grid of 65 rows"):
        placement.to_photo(torch.ones(65, 4), "nearest")
