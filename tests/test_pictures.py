"""Single pictures of every kind, on pixels that are known beforehand."""

from __future__ import annotations

import warnings
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from clip_lens_plugin.pictures import GREATEST_ASPECT, UnreadableImageError, open_upright, unreadable_where, upright_rgb

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CORNERS = np.array([[RED, GREEN, BLUE], [WHITE, (9, 8, 7), (70, 80, 90)]], dtype=np.uint8)
TURNED = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}
"""EXIF orientation to what turns the stored pixels upright."""


def written(picture: Image.Image, kind: str, **options) -> BytesIO:
    file = BytesIO()
    picture.save(file, kind, **options)
    file.seek(0)
    return file


def reread(picture: Image.Image, kind: str, **options) -> np.ndarray:
    opened = open_upright(written(picture, kind, **options))
    assert opened.mode == "RGB"
    return np.asarray(opened)


def noise(kind: str, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return written(Image.fromarray(pixels), kind, **options).getvalue()


# ---------------------------------------------------------------------- colours


def test_inks_become_light():
    """Cyan takes red away, and so on; black takes all."""
    inks = np.array([[[0, 255, 255, 0], [255, 0, 255, 0], [0, 0, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    pixels = reread(Image.fromarray(inks, "CMYK"), "TIFF")
    assert pixels.tolist() == [[[*RED], [*GREEN], [*WHITE], [0, 0, 0]]]


def test_transparent_entries_of_a_palette_become_white():
    picture = Image.new("P", (3, 1))
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.putdata([0, 1, 2])
    assert reread(picture, "PNG", transparency=1).tolist() == [[[*RED], [*WHITE], [*BLUE]]]
    assert reread(picture, "GIF", transparency=1).tolist() == [[[*RED], [*WHITE], [*BLUE]]]
    half = reread(picture, "PNG", transparency=bytes([255, 0, 128]))
    np.testing.assert_allclose(half, [[RED, WHITE, (127, 127, 255)]], atol=1)


@pytest.mark.parametrize(("mode", "colours", "clear"), [("RGB", [RED, BLUE], BLUE), ("L", [10, 200], 200)])
def test_one_colour_that_a_file_declares_transparent_becomes_white(mode, colours, clear):
    picture = Image.new(mode, (2, 1))
    picture.putdata(colours)
    first = RED if mode == "RGB" else (10, 10, 10)
    assert reread(picture, "PNG", transparency=clear).tolist() == [[[*first], [*WHITE]]]


def test_half_transparent_pixels_are_laid_on_white():
    grey = Image.new("LA", (2, 1))
    grey.putdata([(0, 51), (100, 255)])
    np.testing.assert_allclose(reread(grey, "PNG"), [[[204] * 3, [100] * 3]], atol=1)


def test_black_and_white_is_kept():
    picture = Image.new("1", (2, 1))
    picture.putdata([0, 255])
    assert reread(picture, "PNG").tolist() == [[[0, 0, 0], [*WHITE]]]


# ---------------------------------------------------------------------- deep pixels


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 257, 65535, 33000], "uint16", [0, 1, 255, 128]),
        ([0, 257, 65535, 25700], ">u2", [0, 1, 255, 100]),
        ([0, 1, 128, 200], "uint16", [0, 0, 0, 1]),
        ([0, 257, 65535, 25700], "int32", [0, 1, 255, 100]),
        ([0, 1, 128, 255], "int32", [0, 1, 128, 255]),
        ([-300, 0, 70000, 257], "int32", [0, 0, 255, 1]),
        ([0.0, 0.2, 1.0, 0.5], "float32", [0, 51, 255, 128]),
        ([0.0, 51.4, 255.0, 300.0], "float32", [0, 51, 255, 255]),
        ([0.0, 1.4, 1.0, 0.0], "float32", [0, 1, 1, 0]),
        ([-0.5, 0.0, 1.0, 0.4], "float32", [0, 0, 255, 102]),
    ],
)
def test_deep_pixels_become_bytes(values, dtype, expected):
    """16 bits of white are white; whole numbers up to 255 and floats above 1 are bytes already."""
    picture = Image.fromarray(np.array([values]).astype(dtype))
    assert picture.mode in ("I;16", "I;16B", "I", "F")
    assert reread(picture, "TIFF").tolist() == [[[value] * 3 for value in expected]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_floats_that_are_no_number_are_refused(bad):
    picture = Image.fromarray(np.array([[0.5, bad]], dtype=np.float32))
    with pytest.raises(UnreadableImageError, match="NaN or infinite"):
        open_upright(written(picture, "TIFF"))


# ---------------------------------------------------------------------- frames and orientation


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_the_first_of_several_frames_is_taken(kind, options):
    frames = [Image.new("RGB", (8, 6), colour) for colour in (BLUE, RED, GREEN)]
    pixels = reread(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (pixels == BLUE).all()
    assert pixels.shape == (6, 8, 3)


@pytest.mark.parametrize("orientation", TURNED)
def test_every_exif_orientation_is_turned_upright_once(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_upright(written(Image.fromarray(CORNERS), "PNG", exif=exif))
    assert np.array_equal(np.asarray(opened), TURNED[orientation](CORNERS))
    assert np.array_equal(np.asarray(upright_rgb(opened)), np.asarray(opened))


def test_an_orientation_that_is_none_is_left_alone():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert np.array_equal(reread(Image.fromarray(CORNERS), "PNG", exif=exif), CORNERS)


def test_a_picture_that_is_open_already_is_not_changed():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert upright_rgb(clear).getpixel((0, 0)) == WHITE
    assert (clear.mode, clear.getpixel((0, 0))) == ("RGBA", (255, 0, 0, 0))


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_files_that_are_cut_off_are_refused(kind, options, share):
    whole = noise(kind, **options)
    assert open_upright(BytesIO(whole)).size == (64, 64)
    with pytest.raises(UnreadableImageError, match="truncated"):
        open_upright(BytesIO(whole[: int(len(whole) * share)]))


@pytest.mark.parametrize(
    "content", [b"", b"words", b"<svg xmlns='http://www.w3.org/2000/svg'/>", noise("JPEG")[:2], b"\x00" * 1000]
)
def test_what_is_no_image_is_refused(content):
    with pytest.raises(UnreadableImageError, match="not an image, or of an unknown format"):
        open_upright(BytesIO(content))


def test_as_many_pixels_as_allowed_are_opened_and_one_more_row_is_not(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    assert open_upright(written(Image.new("RGB", (30, 20)), "PNG")).size == (30, 20)
    for size in ((30, 21), (60, 60)):
        with pytest.raises(UnreadableImageError, match=r"^more than 600 pixels$"):
            open_upright(written(Image.new("RGB", size), "PNG"))


@pytest.mark.parametrize("turned", [False, True])
def test_the_narrowest_picture_is_opened_and_a_narrower_is_not(turned):
    longest = 3 * GREATEST_ASPECT
    for length, fits in ((longest, True), (longest + 1, False)):
        size = (3, length) if turned else (length, 3)
        file = written(Image.new("RGB", size), "PNG")
        if fits:
            assert open_upright(file).size == size
            continue
        with pytest.raises(UnreadableImageError, match=rf"{size[0]} x {size[1]} pixels: too narrow, at most 100 to 1"):
            open_upright(file)


def test_reasons_are_one_line_that_names_no_path(tmp_path):
    files = {"words.png": b"words", "empty.png": b"", "cut.jpg": noise("JPEG")[:900], "cut.png": noise("PNG")[:900]}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    Image.new("RGB", (1, 500)).save(tmp_path / "narrow.png")
    for name in (*files, "folder.png", "narrow.png", "nowhere.png"):
        for path in (tmp_path / name, str(tmp_path / name)):
            with pytest.raises(UnreadableImageError) as raised:
                open_upright(path)
            reason = str(raised.value)
            assert reason.strip()
            assert "\n" not in reason
            assert str(tmp_path) not in reason
            assert name not in reason


def test_errors_that_are_not_of_the_picture_pass_as_they_are():
    with pytest.raises(MemoryError, match="full"), unreadable_where(lambda error: isinstance(error, OSError)):
        raise MemoryError("full")
    with pytest.raises(UnreadableImageError, match=r"^full$") as raised, unreadable_where():
        raise MemoryError("full")
    assert isinstance(raised.value.__cause__, MemoryError)
    with pytest.raises(UnreadableImageError, match=r"^KeyError$"), unreadable_where():
        raise KeyError
    with pytest.raises(UnreadableImageError, match=r"^first\Z"), unreadable_where():
        raise OSError("first\nsecond")


def test_warnings_of_a_bomb_are_errors_inside_only():
    bomb = Image.DecompressionBombWarning("large")
    with pytest.raises(UnreadableImageError, match="more than"), unreadable_where():
        warnings.warn(bomb, stacklevel=1)
    with pytest.warns(Image.DecompressionBombWarning):
        warnings.warn(bomb, stacklevel=1)
