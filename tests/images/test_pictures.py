"""Single pictures of every kind, on pixels that are known beforehand."""

from __future__ import annotations

import errno
import os
import struct
import tracemalloc
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from clip_lens_plugin.files.given import UnreachableError
from clip_lens_plugin.images.pictures import (
    GREATEST_ASPECT,
    SUFFIXES,
    UnreadableImageError,
    open_upright,
    unreadable_where,
    upright_rgb,
)

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


@pytest.mark.parametrize("greatest", [200, 65535])
def test_sixteen_bits_are_as_bright_in_every_format(tmp_path, greatest):
    """A dark picture stays dark: white is 65,535 in PNG, TIFF and PGM alike."""
    values = np.linspace(0, greatest, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(values).save(tmp_path / "deep.tif")
    (tmp_path / "deep.pgm").write_bytes(b"P5 8 8 65535\n" + values.astype(">u2").tobytes())
    (tmp_path / "plain.pgm").write_text("P2 8 8 65535\n" + " ".join(map(str, values.flatten())))
    for name in ("deep.png", "deep.tif", "deep.pgm", "plain.pgm"):
        found = np.asarray(open_upright(tmp_path / name))[..., 0]
        np.testing.assert_array_equal(found, (values / 257).round(), err_msg=name)


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "RGBA", "LA", "CMYK", "P", "1"])
def test_a_picture_converted_in_strips_is_the_same(monkeypatch, mode):
    rng = np.random.default_rng(1)
    deep = {"I;16": rng.integers(0, 2**16, (20, 9)).astype(np.uint16), "I": rng.integers(0, 2**16, (20, 9), np.int32)}
    deep["F"] = rng.random((20, 9), dtype=np.float32)
    inks = Image.fromarray(rng.integers(0, 256, (20, 9, 4), dtype=np.uint8), "CMYK" if mode == "CMYK" else "RGBA")
    picture = Image.fromarray(deep[mode]) if mode in deep else inks if mode == "CMYK" else inks.convert(mode)
    whole = np.asarray(upright_rgb(picture))
    monkeypatch.setattr("clip_lens_plugin.images.pictures.STRIP_PIXELS", 30)
    np.testing.assert_array_equal(np.asarray(upright_rgb(picture)), whole)


def test_a_deep_picture_takes_no_many_times_its_size():
    """2,500 x 2,500 pixels of 16 bits are 12.5 MB, in RGB 25 MB; floats of all of them would be 50 MB each."""
    file = written(Image.new("I;16", (2500, 2500), 40_000), "PNG")
    tracemalloc.start()
    try:
        opened = open_upright(file)
        assert tracemalloc.get_traced_memory()[1] < 110e6
    finally:
        tracemalloc.stop()
    assert opened.getpixel((2499, 2499)) == (156, 156, 156)


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_with_damaged_exif_is_read_as_it_lies_however_often(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = written(Image.new("RGB", (8, 6), BLUE), kind, exif=exif).getvalue()
    damaged = whole.replace(b"MM\0*", b"xy\0*").replace(b"II*\0", b"xy*\0")
    assert damaged != whole
    if kind == "PNG":
        damaged = damaged.replace(crc(whole, b"eXIf"), crc(damaged, b"eXIf"))
    assert open_upright(BytesIO(whole)).size == (6, 8)
    once = open_upright(BytesIO(damaged))
    assert once.size == (8, 6)
    assert upright_rgb(once) is once
    assert upright_rgb(Image.open(BytesIO(damaged)).convert("RGB")).size == (8, 6)


def crc(png: bytes, chunk: bytes) -> bytes:
    """The checksum that a chunk should have."""
    start = png.index(chunk)
    (length,) = struct.unpack(">I", png[start - 4 : start])
    return struct.pack(">I", zlib.crc32(png[start : start + 4 + length]))


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


def test_pixels_are_bounded_where_pils_own_bound_is_off(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr("clip_lens_plugin.images.pictures.MOST_PIXELS", 600)
    assert open_upright(written(Image.new("RGB", (30, 20)), "PNG")).size == (30, 20)
    for given in (open_upright, lambda file: upright_rgb(Image.open(file))):
        with pytest.raises(UnreadableImageError, match=r"^more than 600 pixels$"):
            given(written(Image.new("RGB", (30, 21)), "PNG"))


def test_a_tile_far_beyond_its_picture_is_refused():
    """Decoding one takes the memory of the tile: 64 pixels would take a gigabyte."""
    tags = [(256, 8), (257, 8), (258, 8), (259, 8), (262, 1), (277, 1), (322, 2**15), (323, 2**15), (324, 8), (325, 4)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    file = b"II*\0" + struct.pack("<I", 12) + b"\0" * 4 + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    with pytest.raises(UnreadableImageError, match=r"8 x 8 in tiles of 1,073,741,824 pixels"):
        open_upright(BytesIO(file))


def test_a_jpeg_of_very_many_scans_is_refused():
    whole = noise("JPEG", progressive=True)
    last = whole.rfind(b"\xff\xda")
    assert open_upright(BytesIO(whole[:-2] + whole[last:-2] * 5 + whole[-2:])).size == (64, 64)
    with pytest.raises(UnreadableImageError, match=r"progressive JPEG of .* scans, at most 1,000"):
        open_upright(BytesIO(whole[:-2] + whole[last:-2] * 1000 + whole[-2:]))


def test_a_file_larger_than_any_picture_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("clip_lens_plugin.images.pictures.MOST_BYTES", 5000)
    (tmp_path / "large.png").write_bytes(noise("PNG"))
    with pytest.raises(UnreadableImageError, match="bytes, at most 5,000"):
        open_upright(tmp_path / "large.png")
    with (
        (tmp_path / "large.png").open("rb") as file,
        pytest.raises(UnreadableImageError, match="more than 5,000 bytes"),
    ):
        open_upright(file)


# ---------------------------------------------------------------------- formats


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_has_its_format(suffix):
    kind = Image.registered_extensions()[suffix]
    assert open_upright(written(Image.new("RGB", (8, 6), BLUE), kind)).size == (8, 6)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "PCX", "TGA", "JPEG2000", "IM", "SGI"])
def test_other_formats_are_refused_whatever_their_name(kind, tmp_path):
    file = written(Image.new("RGB", (16, 16), BLUE), kind)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    for given in (file, tmp_path / "a.jpg"):
        with pytest.raises(UnreadableImageError, match="not an image, or of an unknown format"):
            open_upright(given)
    if kind not in ("PDF", "ICO"):  # which PIL only writes, or opens at once
        with pytest.raises(UnreadableImageError, match=f"^{kind}, which is not read; formats are AVIF, BMP"):
            upright_rgb(Image.open(file))


def test_a_picture_of_another_format_that_its_owner_has_decoded_is_taken():
    file = written(Image.new("RGB", (16, 16), BLUE), "TGA")
    opened = Image.open(file)
    opened.load()
    assert upright_rgb(opened).getpixel((3, 3)) == BLUE


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
    os.mkfifo(tmp_path / "pipe.png")
    for name in (*files, "folder.png", "narrow.png", "pipe.png"):
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
        raise EOFError("full")
    assert isinstance(raised.value.__cause__, EOFError)
    with pytest.raises(UnreadableImageError, match=r"^KeyError$"), unreadable_where():
        raise KeyError
    with pytest.raises(UnreadableImageError, match=r"^first\Z"), unreadable_where():
        raise OSError("first\nsecond")


def test_what_the_machine_or_the_place_lacks_says_nothing_of_the_picture(tmp_path):
    for error in (MemoryError("full"), OSError(errno.EIO, "I/O error"), OSError(errno.EMFILE, "Too many open files")):
        with pytest.raises(UnreachableError, match=r"^(full|I/O error|Too many open files)$"), unreadable_where():
            raise error
    with pytest.raises(UnreachableError, match="No such file"):
        open_upright(tmp_path / "nowhere.png")


def test_a_decoder_without_memory_is_believed_only_if_the_machine_has_none(monkeypatch):
    with pytest.raises(UnreadableImageError, match="out of memory"), unreadable_where():
        raise OSError("out of memory error when reading image file")

    def none_left(*given, **named):
        raise MemoryError

    monkeypatch.setattr(np, "empty", none_left)
    with pytest.raises(UnreachableError, match="out of memory"), unreadable_where():
        raise OSError("out of memory error when reading image file")


def test_warnings_of_a_bomb_are_errors_inside_only():
    bomb = Image.DecompressionBombWarning("large")
    with pytest.raises(UnreadableImageError, match="more than"), unreadable_where():
        warnings.warn(bomb, stacklevel=1)
    with pytest.warns(Image.DecompressionBombWarning):
        warnings.warn(bomb, stacklevel=1)
