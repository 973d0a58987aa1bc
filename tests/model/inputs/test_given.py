"""A path, pictures and pixels give one model the same images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clip_lens_plugin import HookedCLIP, patch_text_map, text_span
from clip_lens_plugin.ablation import activation_means, class_self_attention_messages
from clip_lens_plugin.images.pictures import UnreadableImageError
from clip_lens_plugin.model.inputs.given import given_image, given_images
from clip_lens_plugin.model.inputs.pixels import PixelError
from clip_lens_plugin.scenes import draw, sample_scenes

PICTURES = [draw(scene).resize((90, 70)) for scene in sample_scenes(5, seed=3)]


@pytest.fixture(scope="module")
def scenes() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Five photographs, the third turned by its EXIF orientation, in two folders."""
    root = tmp_path_factory.mktemp("photographs")
    (root / "b").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    for i, picture in enumerate(PICTURES):
        exif = turned if i == 2 else Image.Exif()
        picture.save(root / ("b" if i > 2 else ".") / f"{i}.png", exif=exif)
    (root / "notes.txt").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def pixels(scenes) -> torch.Tensor:
    shown = [each.transpose(Image.Transpose.ROTATE_270) if i == 2 else each for i, each in enumerate(PICTURES)]
    return torch.stack([scenes.preprocess(each) for each in shown])


def test_every_way_gives_the_same_pixels(scenes, folder, pixels):
    paths = [folder / "0.png", folder / "1.png", folder / "2.png", folder / "b/3.png", folder / "b/4.png"]
    opened = [io.BytesIO(path.read_bytes()) for path in paths]
    for given in (folder, str(folder), paths, [str(path) for path in paths], opened, [Image.open(p) for p in paths]):
        found = given_images(scenes, given)
        assert len(found) == 5
        assert torch.equal(found.pixels(slice(1, 4)), pixels[1:4])
        assert found.photographs is not None
        assert found.photographs[2].open().size == (70, 90)
    assert [each.name for each in given_images(scenes, folder).photographs] == [
        "0.png", "1.png", "2.png", "b/3.png", "b/4.png",
    ]  # fmt: skip
    assert torch.equal(given_images(scenes, pixels).pixels(slice(None)), pixels)
    for one in (paths[3], PICTURES[3], pixels[3], pixels[3:4]):
        assert torch.equal(given_image(scenes, one).pixels(slice(None)), pixels[3:4])


def test_pictures_come_to_the_model_in_its_dtype(scenes, folder):
    double = HookedCLIP.from_pretrained("scenes").double()
    assert given_images(double, folder).pixels(slice(0, 1)).dtype == torch.float64


def test_analyses_of_a_folder_are_those_of_its_pixels(scenes, folder, pixels):
    plain, named = scenes.decompose(pixels), scenes.decompose(folder, batch_size=2)
    assert plain.names is None
    assert named.names == ("0.png", "1.png", "2.png", "b/3.png", "b/4.png")
    torch.testing.assert_close(named.heads, plain.heads)
    assert named.select([4, 0]).normalized().with_constants("separate").names == ("b/4.png", "0.png")
    texts = ["red shape", "a circle", "blue background"]
    torch.testing.assert_close(
        patch_text_map(scenes, folder, texts, batch_size=2).values, patch_text_map(scenes, pixels, texts).values
    )
    from_folder = text_span(scenes, folder, texts, 2, heads=[(5, 1)])
    assert from_folder[5, 1].texts == text_span(scenes, plain, texts, 2, heads=[(5, 1)])[5, 1].texts


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("missing.jpg", ValueError, "There is no picture 'missing.jpg'"),
        ([], ValueError, "No images were given"),
        (["https://example.org/a.jpg"], ValueError, "address on the network"),
        (np.zeros((3, 56, 56)), PixelError, "got a numpy array"),
        ([torch.zeros(3, 56, 56)], PixelError, r"torch\.stack"),
        (7, PixelError, "got a int"),
        (torch.zeros(0, 3, 56, 56), ValueError, "No images were given"),
    ],
)
def test_what_is_no_image_is_refused(scenes, given, error, message):
    with pytest.raises(error, match=message):
        scenes.decompose(given)


def test_damaged_pictures_empty_folders_and_lacking_preprocessing_are_named(scenes, folder, tmp_path):
    with pytest.raises(ValueError, match="holds no image files"):
        scenes.decompose(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"nothing")
    (tmp_path / "a.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(
        UnreadableImageError, match=r"^/.*/bad\.png cannot be used: .* or collect the folder, which skips such"
    ):
        scenes.decompose(tmp_path)
    with pytest.raises(UnreadableImageError, match=r"^Image 1 cannot be used: 300 x 1 pixels"):
        scenes.decompose([Image.open(folder / "0.png"), Image.new("RGB", (300, 1))])
    with pytest.raises(ValueError, match="One image is expected, got 5"):
        given_image(scenes, folder)
    bare = HookedCLIP.from_open_clip(scenes.clip, model_name="bare")
    with pytest.raises(ValueError, match="bare was wrapped without its preprocessing"):
        bare.decompose(folder)


def test_a_folder_with_links_that_lead_out_is_refused_and_a_list_of_links_is_taken(scenes, folder, tmp_path):
    (some := tmp_path / "some").mkdir()
    draw(sample_scenes(1, 4)[0]).save(some / "own.png")
    links = [some / path.name for path in sorted(folder.iterdir()) if path.suffix == ".png"][:2]
    for link in links:
        link.symlink_to(folder / link.name)
    with pytest.raises(UnreadableImageError, match=f"{links[0].name}.* leads out .* 2 files.* in a list"):
        scenes.decompose(some)
    expected = scenes.decompose([folder / link.name for link in links])
    torch.testing.assert_close(scenes.decompose(links).embedding, expected.embedding)


def test_means_messages_and_verification_take_pictures(scenes, folder, pixels):
    for ask in (
        lambda images: activation_means(scenes, images, "blocks.2.attn.hook_z", batch_size=2)["blocks.2.attn.hook_z"],
        lambda images: class_self_attention_messages(scenes, images, [3], batch_size=2)[3],
    ):
        torch.testing.assert_close(ask(folder), ask(pixels))
    assert scenes.verify(folder).n_images == 5


def test_pictures_of_one_name_are_told_apart_by_their_folders(scenes, tmp_path):
    paths = [tmp_path / each for each in ("a/x.png", "b/x.png", "a/c/y.png", "b/c/y.png", "d/y.png", "a/z.png")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        PICTURES[0].save(path)
    names = ("a/x.png", "b/x.png", "a/c/y.png", "b/c/y.png", "d/y.png", "z.png")
    assert scenes.decompose(paths).names == names
    given = given_images(scenes, [paths[0], PICTURES[1], paths[0], str(paths[5])])
    assert [each.name for each in given.photographs or ()] == ["x.png", "image 1", "x.png", "z.png"]
