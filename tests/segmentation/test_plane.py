"""Where maps are scored: on the photograph through the crop, or on a square as published code does it."""

from __future__ import annotations

from functools import partial

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.segmentation.masked.dataset import MaskedImage
from clip_lens_plugin.segmentation.plane import Planes
from tests.segmentation.planted import masked


@pytest.fixture(scope="module")
def model() -> HookedCLIP:
    return HookedCLIP.from_pretrained(
        "scenes", device="cpu"
    )  # which sees 56 x 56 pixels, on which maps of 8 x 8 patches lie here


def patches(left: int, top: int, right: int, bottom: int) -> torch.Tensor:
    values = torch.zeros(8, 8)
    values[top:bottom, left:right] = 1.0
    return values


def test_a_map_of_the_masks_patches_is_right_up_to_its_blurred_edge(model: HookedCLIP) -> None:
    image = masked("a", "box", (14, 21, 42, 49))
    scores = Planes.of(model, "original").plane(image).scores(patches(2, 3, 6, 7))
    assert scores.unseen == scores.void == 0
    assert scores.average_precision > 0.99
    wrong = Planes.of(model, "original").plane(image).scores(patches(0, 0, 1, 2))
    assert wrong.true_positive == 0


def test_on_the_photograph_only_what_the_crop_kept_is_scored(model: HookedCLIP) -> None:
    # 112 x 56 becomes 56 x 56 about its middle: columns 28 to 84 are seen, and a patch is 7 pixels wide there.
    image = masked("a", "box", (28, 0, 42, 14), (112, 56))
    plane = Planes.of(model, "original").plane(image)
    scores = plane.scores(patches(0, 0, 2, 2))
    assert scores.unseen == 56 * 56
    assert scores.average_precision > 0.99
    assert scores.true_positive == 14 * 14
    assert plane.scores(patches(6, 0, 8, 2)).true_positive == 0
    outside = Planes.of(model, "original").plane(masked("a", "box", (0, 0, 20, 20), (112, 56)))
    assert np.isnan(outside.scores(patches(0, 0, 2, 2)).average_precision)


def test_one_pixel_each_where_patches_are_as_small(model: HookedCLIP) -> None:
    mask = np.random.default_rng(0).random((56, 56)) < 0.3
    image = MaskedImage("a", Image.new("RGB", (56, 56)), "box", mask)
    scores = Planes.of(model, "original").plane(image).scores(torch.from_numpy(mask).float())
    assert scores.average_precision == 1.0
    assert scores.false_positive == scores.false_negative == 0


def test_published_ways_squash_the_mask_and_one_of_them_the_picture(model: HookedCLIP) -> None:
    image = masked("a", "box", (28, 0, 42, 14), (112, 56), void=np.zeros((56, 112), dtype=bool))
    squash, paper = (Planes.of(model, mode).plane(image) for mode in ("squash", "paper"))
    assert squash.picture.size == (56, 56)
    assert paper.picture.size == (112, 56)
    expected = image.mask[:, 1::2]  # the nearest pixel of each second column
    for plane in (squash, paper):
        assert np.array_equal(plane.mask, expected)
        assert plane.void is not None
        assert plane.placement.photo_size == (56, 56)
    bilinear = image.picture.resize((56, 56), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(squash.picture), np.asarray(bilinear))
    assert squash.scores(patches(2, 0, 3, 2)).unseen == 0
    # As in the authors' code: a map made with torch, cut at 0, scaled, above its mean.
    values = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    wide = torch.nn.functional.interpolate(values[None, None].double(), scale_factor=7, mode="bilinear")[0, 0].clip(0)
    wide = (wide - wide.min()) / (wide.max() - wide.min())
    above, truth = (wide > wide.mean()).numpy(), expected
    scores = paper.scores(values)
    assert (scores.true_positive, scores.false_positive) == ((above & truth).sum(), (above & ~truth).sum())
    assert scores.unseen == 0


def test_what_cannot_be_placed_is_refused_and_the_papers_way_does_without(
    model: HookedCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="'original', 'paper' or 'squash', got 'exact'"):
        Planes.of(model, "exact")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mask of a has 3 x 2 pixels, its picture 56 x 56"):
        MaskedImage("a", Image.new("RGB", (56, 56)), "box", np.zeros((2, 3), dtype=bool))
    with pytest.raises(ValueError, match="NaN"):
        Planes.of(model, "original").plane(masked("a", "box", (0, 0, 9, 9))).scores(torch.full((8, 8), torch.nan))
    monkeypatch.setattr(model, "preprocess", partial(model.preprocess))
    with pytest.raises(ValueError, match="or score with mode 'paper'"):
        Planes.of(model, "original")
    assert Planes.of(model, "paper").geometry is None
