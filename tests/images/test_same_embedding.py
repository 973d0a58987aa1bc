"""A picture is one embedding's, whether it comes from a folder, a data set, or the user's own hands."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from clip_lens_plugin import HookedCLIP, collect
from clip_lens_plugin.datasets.image_folder import find_images, load_images
from clip_lens_plugin.images.pictures import UnreadableImageError, open_upright, upright_rgb
from clip_lens_plugin.maps.crop_geometry import Placement
from clip_lens_plugin.maps.patch_text import head_text_scores, patch_text_map
from clip_lens_plugin.views.drawing.encoding import picture_uri
from clip_lens_plugin.views.maps.patch_text import head_text_view, patch_text_view

pytestmark = pytest.mark.slow

SIDE = (70, 90)
"""Width and height: what is turned shows."""


def noise(*channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE[1], SIDE[0], *channels), dtype=np.uint8)


def turned(orientation: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(noise(3)).save(folder / "a.jpg", exif=exif)
        return folder / "a.jpg"

    return write


def saved(make: Callable[[], Image.Image], name: str, **options: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        make().save(folder / name, **options)
        return folder / name

    return write


def palette() -> Image.Image:
    return Image.fromarray(noise(3)).quantize(16)


def frames(kind: str) -> Callable[[Path], Path]:
    first, *rest = (Image.fromarray(noise(3, seed=seed)) for seed in range(3))
    return saved(lambda: first, f"a.{kind}", save_all=True, append_images=rest)


FILES: dict[str, Callable[[Path], Path]] = {
    "rgb": saved(lambda: Image.fromarray(noise(3)), "a.png"),
    **{f"exif_{orientation}": turned(orientation) for orientation in range(1, 9)},
    "exif_png": saved(
        lambda: Image.fromarray(noise(4), "RGBA"),
        "a.png",
        exif=b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00",
    ),
    "rgba": saved(lambda: Image.fromarray(noise(4), "RGBA"), "a.png"),
    "rgba_webp": saved(lambda: Image.fromarray(noise(4), "RGBA"), "a.webp", lossless=True),
    "la": saved(lambda: Image.fromarray(noise(4), "RGBA").convert("LA"), "a.png"),
    "l": saved(lambda: Image.fromarray(noise()), "a.png"),
    "1": saved(lambda: Image.fromarray(noise()).convert("1"), "a.png"),
    "p": saved(palette, "a.png"),
    "p_clear": saved(palette, "a.png", transparency=3),
    "p_half_clear": saved(palette, "a.png", transparency=bytes(range(0, 256, 16))),
    "rgb_one_colour_clear": saved(lambda: Image.fromarray(noise(3) // 128 * 255), "a.png", transparency=(255, 0, 0)),
    "gif": saved(palette, "a.gif", transparency=3),
    "16_bit": saved(lambda: Image.fromarray(noise().astype(np.uint16) * 257), "a.png"),
    "16_bit_tiff": saved(lambda: Image.fromarray((noise().astype(np.uint16) * 257).astype(">u2")), "a.tif"),
    "i": saved(lambda: Image.fromarray(noise().astype(np.int32) * 257), "a.tif"),
    "f": saved(lambda: Image.fromarray(noise().astype(np.float32) / 255), "a.tif"),
    "cmyk": saved(lambda: Image.fromarray(noise(4), "CMYK"), "a.jpg"),
    "ycbcr": saved(lambda: Image.fromarray(noise(3), "YCbCr"), "a.jpg"),
    "lab": saved(lambda: Image.fromarray(noise(3), "LAB"), "a.tif"),
    "animated_gif": frames("gif"),
    "animated_png": frames("png"),
    "animated_webp": frames("webp"),
    "pages_of_tiff": frames("tif"),
}

SAME_IN_PIL = {"rgb", "exif_1", "l", "1", "p", "cmyk", "ycbcr", "lab"} | {
    name for name in FILES if name[:2] in ("an", "pa")
}
"""Files of which ``picture.convert("RGB")`` loses nothing."""


class Pictures(Dataset):
    """A torch data set of one picture as PIL opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 1

    def __getitem__(self, position: int) -> Image.Image:
        return Image.open(self.path)


class OwnSource:
    """An image source of one's own, which turns nothing."""

    description, classes = "a source", None

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 1

    def name(self, position: int) -> str:
        return "a"

    def read(self, position: int) -> Any:
        from clip_lens_plugin.datasets import Sample

        return Sample(Image.open(self.path), -1)

    def fingerprint(self) -> str:
        return "0" * 64


@pytest.fixture(scope="module")
def scenes() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu")


def in_folder(model: HookedCLIP, folder: Path) -> Tensor:
    return load_images(folder, find_images(folder), model.preprocess).tensor


# ---------------------------------------------------------------------- one conversion


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_the_same_in_a_folder_and_in_hand(scenes: HookedCLIP, tmp_path: Path, kind: str) -> None:
    path = FILES[kind](tmp_path)
    expected = in_folder(scenes, tmp_path)
    for given in (Image.open(path), path, str(path), BytesIO(path.read_bytes()), open_upright(path)):
        assert torch.equal(scenes.prepare([given]), expected)
        assert torch.equal(scenes(scenes.prepare(given)), scenes(expected))
    # Independent of this package: the picture is not what PIL's plain conversion makes where that loses something.
    plain = scenes.preprocess(Image.open(path).convert("RGB"))
    assert torch.equal(plain, expected[0]) is (kind in SAME_IN_PIL)


@pytest.mark.parametrize("kind", ["exif_6", "rgba", "16_bit", "p_clear"])
@pytest.mark.parametrize("source", ["folder", "torch", "own", "hugging_face", "shards"])
def test_every_data_set_gives_that_embedding(scenes: HookedCLIP, tmp_path: Path, kind: str, source: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    path = FILES[kind](folder)
    data: Any = {"folder": folder, "torch": Pictures(path), "own": OwnSource(path)}.get(source)
    if source == "hugging_face":
        datasets = pytest.importorskip("datasets")
        data = datasets.Dataset.from_dict({"image": [str(path)]}).cast_column("image", datasets.Image())
    elif source == "shards":
        import tarfile

        data = tmp_path / "a.tar"
        with tarfile.open(data, "w") as tar:
            tar.add(path, f"0{path.suffix}")
    store = collect(scenes, data, tmp_path / "out", "contributions", dtype="float32", progress=False)
    assert torch.equal(store[:].embedding, scenes.decompose(scenes.prepare(path)).embedding)


@pytest.mark.parametrize("kind", ["exif_6", "rgba", "16_bit"])
def test_views_show_the_picture_that_the_model_saw(scenes: HookedCLIP, tmp_path: Path, kind: str) -> None:
    path = FILES[kind](tmp_path)
    opened, upright = Image.open(path), open_upright(path)
    assert picture_uri(opened, 64) == picture_uri(upright, 64)
    height, width = scenes.cfg.image_size
    placement = Placement.of(scenes.preprocess, upright.size, (width, height))
    images, texts = scenes.prepare([opened]), ["red circle", "blue square"]
    scores, maps = head_text_scores(scenes, images[0], texts), patch_text_map(scenes, images, texts)
    for view in (
        lambda picture: head_text_view(scores, picture, placement),
        lambda picture: patch_text_view(maps, [picture], [placement]),
    ):
        assert view(opened).png == view(upright).png
        assert view(opened).html() == view(upright).html()


def test_several_pictures_keep_their_order(scenes: HookedCLIP, tmp_path: Path) -> None:
    path = FILES["exif_6"](tmp_path)
    red = Image.new("RGB", (60, 60), "red")
    both = scenes.prepare(each for each in (red, path))
    assert torch.equal(both, torch.cat([scenes.prepare(red), scenes.prepare(path)]))
    assert torch.equal(scenes.prepare((path, red)), both.flip(0))


def test_what_is_upright_already_is_not_copied() -> None:
    picture = Image.new("RGB", (4, 4))
    assert upright_rgb(picture) is picture
    assert upright_rgb(Image.new("L", (4, 4))).mode == "RGB"


def test_premultiplied_grey_is_read(scenes: HookedCLIP) -> None:
    grey = Image.fromarray(noise(4), "RGBA").convert("LA")
    assert torch.equal(scenes.prepare(grey.convert("La").convert("LA")), scenes.prepare(grey.convert("La")))


# ---------------------------------------------------------------------- refused


def test_what_is_no_picture_is_refused_with_a_sentence(
    scenes: HookedCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of the tests
    (tmp_path / "words.png").write_bytes(b"words")
    picture = Image.new("RGB", (9, 9))
    for wrong, kind, message in (
        ([], ValueError, "No picture was given"),
        (None, TypeError, "got NoneType"),
        (3, TypeError, "got int"),
        (torch.zeros(3, 56, 56), TypeError, r"model\(images\)"),
        (np.zeros((56, 56, 3), np.uint8), TypeError, r"Image\.fromarray"),
        ([picture, np.zeros((56, 56, 3), np.uint8)], TypeError, r"Picture 1: .*Image\.fromarray"),
        (b"bytes", TypeError, r"io\.BytesIO"),
        ([picture, tmp_path / "words.png"], UnreadableImageError, r"Picture 1, .*words\.png.* not an image"),
        ("nowhere.png", UnreadableImageError, r"Picture 0, 'nowhere\.png', cannot be used: No such file"),
        (tmp_path, ValueError, "is a folder"),
        ("https://example.org/a.png", ValueError, "on the network"),
        (Image.new("RGB", (1, 500)), UnreadableImageError, "Picture 0 cannot be used: 1 x 500"),
    ):
        with pytest.raises(kind, match=message):
            scenes.prepare(wrong)


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        (None, "without its preprocessing"),
        (lambda picture: {"pixel_values": 1}, "makes a dict"),
        (lambda picture: torch.zeros(1, 3, 56, 56), r"makes \[1, 3, 56, 56\]"),
        (lambda picture: torch.zeros(3, *picture.size), r"makes \[3, 9, 9\]"),
    ],
)
def test_a_preprocessing_that_does_not_fit_is_refused(scenes: HookedCLIP, preprocess: Any, message: str) -> None:
    clip = HookedCLIP.from_open_clip(scenes.clip, preprocess, model_name="mine")
    with pytest.raises(ValueError, match=f"mine.*{message}"):
        clip.prepare(Image.new("RGB", (9, 9)))
