"""Folders with every kind of trouble, checked on pixels that are known beforehand."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image

from clip_lens_plugin.datasets.image_folder import (
    ImageFolderError,
    UnreadableImageError,
    find_images,
    load_images,
    open_upright,
)
from clip_lens_plugin.images.preprocessed import shown_pictures


@pytest.fixture
def preprocess():
    return image_transform(32, is_train=False)


def picture(size=(40, 40), colour=(200, 30, 60)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_files_are_found_in_subfolders_sorted_and_only_images(tmp_path):
    for name in ("b.png", "a/z.JPG", "a/b/c.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/b/c.webp", "a/z.JPG", "b.png"]


def test_limit_is_evenly_spaced(tmp_path):
    for i in range(10):
        picture().save(tmp_path / f"{i}.png")
    assert [path.stem for path in find_images(tmp_path, 5)] == ["0", "2", "4", "6", "8"]
    assert len(find_images(tmp_path, 50)) == 10


def test_links_that_lead_out_are_left_out(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    picture().save(inside / "mine.png")
    picture().save(outside / "theirs.png")
    os.symlink(outside / "theirs.png", inside / "link.png")
    os.symlink(outside, inside / "folder")
    os.symlink(tmp_path / "nowhere.png", inside / "broken.png")
    os.symlink(inside / "mine.png", inside / "again.png")
    assert [path.name for path in find_images(inside)] == ["again.png", "mine.png"]


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_folders_that_cannot_be_used_say_so(tmp_path, kind):
    target = tmp_path / kind
    if kind == "file":
        target.write_text("")
    elif kind == "empty":
        target.mkdir()
    message = {"missing": "There is no folder", "file": "is a file", "empty": "holds no image files"}[kind]
    with pytest.raises(ImageFolderError, match=message):
        find_images(target)


def test_unreadable_files_are_listed_with_a_reason_and_the_rest_is_used(tmp_path, preprocess):
    picture().save(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is text")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg", quality=95)
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    picture((1, 2000)).save(tmp_path / "narrow.png")
    calls = []
    loaded = load_images(tmp_path, find_images(tmp_path), preprocess, lambda *done: calls.append(done))
    assert loaded.names == ("good.png",)
    assert loaded.tensor.shape == (1, 3, 32, 32)
    reasons = {each.name: each.reason for each in loaded.skipped}
    assert set(reasons) == {"empty.png", "text.jpg", "cut.jpg", "narrow.png"}
    assert "truncated" in reasons["cut.jpg"]
    assert "too narrow" in reasons["narrow.png"]
    assert not any(str(tmp_path) in reason for reason in reasons.values())
    assert calls == [(i, 5) for i in range(1, 6)]


def test_none_readable_is_an_error_with_the_first_reason(tmp_path, preprocess):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(ImageFolderError, match=r"None of the 1 image files.*bad\.png.*not an image"):
        load_images(tmp_path, find_images(tmp_path), preprocess)


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    picture((40, 40)).save(tmp_path / "warned.png")
    picture((60, 60)).save(tmp_path / "refused.png")
    for name in ("warned.png", "refused.png"):
        with pytest.raises(UnreadableImageError, match="more than 1,000 pixels"):
            open_upright(tmp_path / name)


def test_exif_orientation_is_applied(tmp_path):
    sideways = Image.new("RGB", (40, 20), "blue")
    sideways.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    sideways.save(tmp_path / "turned.png", exif=exif)
    upright = open_upright(tmp_path / "turned.png")
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5)) == (255, 0, 0)
    assert upright.getpixel((10, 35)) == (0, 0, 255)


def test_sixteen_bits_keep_their_brightness(tmp_path):
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    Image.fromarray(ramp.astype(np.int32)).save(tmp_path / "deep.tif")
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "float.tif")
    for name in ("deep.png", "deep.tif", "float.tif"):
        opened = open_upright(tmp_path / name)
        assert opened.mode == "RGB"
        np.testing.assert_allclose(np.asarray(opened)[..., 0], ramp / 257, atol=1)


def test_cmyk_palette_transparency_grey_and_animation(tmp_path):
    picture(colour=(255, 0, 0)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    picture(colour=(255, 0, 0)).convert("P").save(tmp_path / "palette.png")
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("LA", (40, 40), (10, 255)).save(tmp_path / "grey.png")
    frames = [picture(colour=(0, 0, 255)), picture(colour=(255, 0, 0))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    expected = {
        "cmyk.jpg": (255, 0, 0),
        "palette.png": (255, 0, 0),
        "clear.png": (255, 255, 255),
        "grey.png": (10, 10, 10),
        "moving.gif": (0, 0, 255),
    }
    for name, colour in expected.items():
        opened = open_upright(tmp_path / name)
        assert opened.mode == "RGB"
        np.testing.assert_allclose(opened.getpixel((20, 20)), colour, atol=4, err_msg=name)


def test_shown_picture_is_the_centre_crop_that_the_model_sees(preprocess):
    wide = picture((96, 32), (0, 0, 255))
    wide.paste((255, 128, 0), (32, 0, 64, 32))
    (shown,) = shown_pictures(preprocess(wide)[None], preprocess)
    assert shown.size == (32, 32)
    np.testing.assert_allclose(np.asarray(shown)[:, 2:-2], [[[255, 128, 0]] * 28] * 32, atol=1)


def test_shown_pictures_need_a_normalize_step():
    with pytest.raises(ValueError, match="no Normalize step"):
        shown_pictures(torch.zeros(1, 3, 8, 8), None)


def test_folder_labels_need_two_subfolders_and_a_stray_image_has_none(tmp_path, preprocess):
    for name in ("cat/1.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir()
        picture().save(tmp_path / name)
    assert load_images(tmp_path, find_images(tmp_path), preprocess).folder_labels() == ("cat", "dog")
    picture().save(tmp_path / "stray.png")
    assert load_images(tmp_path, find_images(tmp_path), preprocess).folder_labels() == ("cat", "dog", None)
    (tmp_path / "dog" / "1.png").unlink()
    assert load_images(tmp_path, find_images(tmp_path), preprocess).folder_labels() is None


def test_names_that_are_no_unicode_can_be_written(tmp_path, preprocess):
    target = os.path.join(os.fsencode(tmp_path), b"bad\xff.png")
    try:
        with open(target, "wb") as file:
            picture().save(file, "PNG")
    except OSError:
        pytest.skip("this file system takes only names in Unicode")
    loaded = load_images(tmp_path, find_images(tmp_path), preprocess)
    assert loaded.names == ("bad\ufffd.png",)
