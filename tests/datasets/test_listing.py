"""What stands in a picture's place is listed with its reason, and no link leads out."""

from __future__ import annotations

import errno
import os

import pytest
from open_clip.transform import image_transform
from PIL import Image

from clip_lens_plugin.datasets.folder import FolderSource
from clip_lens_plugin.datasets.image_folder import ImageFolderError, Skipped, find_images, load_images
from clip_lens_plugin.files.given import UnreachableError
from clip_lens_plugin.images.pictures import UnreadableImageError


@pytest.fixture
def folder(tmp_path):
    """Three pictures in two class folders, and beside them every kind of link, and a pipe."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for path in (root / "cat" / "1.png", root / "cat" / "2.png", root / "dog" / "3.png", outside / "4.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (9, 9, 9)).save(path)
    (root / "cat" / "again.png").symlink_to("1.png")
    (root / "cat" / "up").symlink_to("..")
    (root / "cat" / "dogs").symlink_to("../dog")
    (root / "dog" / "theirs.png").symlink_to(outside / "4.png")
    (root / "dog" / "chain.png").symlink_to("theirs.png")
    (root / "emu").symlink_to(outside)
    (root / "fox").symlink_to("/nowhere/fox")
    (root / "dog" / "loop.png").symlink_to("loop.png")
    (root / "dog" / "lost.png").symlink_to("nothing.png")
    (root / "notes.txt").symlink_to("/nowhere/notes.txt")
    os.mkfifo(root / "dog" / "pipe.png")
    os.mkfifo(root / "dog" / "no picture")
    return root


INSIDE = ["cat/1.png", "cat/2.png", "cat/again.png", "dog/3.png"]
LEFT_OUT = {
    "dog/chain.png": "leads out of the folder, to .*outside/4.png",
    "dog/loop.png": "a link that leads to no file",
    "dog/lost.png": "a link to nothing",
    "dog/pipe.png": "a pipe, not a file",
    "dog/theirs.png": "leads out of the folder, to .*outside/4.png",
    "emu": "leads out of the folder, to .*outside",
    "fox": "a link to nothing",
}


def test_links_inside_are_files_and_the_rest_has_a_reason(folder):
    left_out: list[Skipped] = []
    assert [path.relative_to(folder).as_posix() for path in find_images(folder, left_out=left_out)] == INSIDE
    assert [each.name for each in left_out] == sorted(LEFT_OUT)
    for each in left_out:
        with pytest.raises(UnreadableImageError, match=LEFT_OUT[each.name]):
            raise UnreadableImageError(each.reason)


def test_what_is_left_out_is_a_sample_that_cannot_be_read_and_no_class(folder):
    source = FolderSource(folder)
    names = [source.name(i) for i in range(len(source))]
    assert names == [*INSIDE, *sorted(LEFT_OUT)]
    assert source.classes == ("cat", "dog")
    assert [source.read(i).label for i in range(4)] == [0, 0, 0, 1]
    for i in range(4, len(source)):
        with pytest.raises(UnreadableImageError, match=LEFT_OUT[names[i]]):
            source.read(i)
    before = source.fingerprint()
    (folder / "fox").unlink()
    assert FolderSource(folder).fingerprint() != before


def test_a_folder_of_links_that_lead_out_says_so(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "cat").symlink_to("/usr")
    with pytest.raises(ImageFolderError, match=r"holds no image files; .* 'cat' is a link that leads out .*, to /usr"):
        find_images(tmp_path / "root")


def test_a_folder_that_is_given_by_a_link_is_a_folder(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert len(find_images(tmp_path / "link")) == len(INSIDE)


def test_a_subfolder_that_may_not_be_listed_is_said_and_a_failing_disk_stops(folder, monkeypatch):
    scandir = os.scandir

    def failing(path):
        if str(path).endswith("dog"):
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    number = errno.EACCES
    left_out: list[Skipped] = []
    assert len(find_images(folder, left_out=left_out)) == 3
    assert ("dog", "a folder that cannot be listed: Permission denied") in [(e.name, e.reason) for e in left_out]
    number = errno.EIO
    with pytest.raises(UnreachableError, match=r"root/dog cannot be listed: Input/output error"):
        find_images(folder)


def test_loading_stops_where_a_file_is_gone_and_skips_one_that_is_damaged(folder):
    (folder / "cat" / "2.png").write_bytes(b"damaged")
    paths, preprocess = find_images(folder), image_transform(32, is_train=False)
    loaded = load_images(folder, paths, preprocess)
    assert [each.name for each in loaded.skipped] == ["cat/2.png"]
    assert loaded.photograph(0).size == (40, 40)
    folder.rename(folder.with_name("away"))
    with pytest.raises(UnreachableError, match=r"cat/1\.png cannot be reached: No such file.*may be whole"):
        load_images(folder, paths, preprocess)
    with pytest.raises(UnreachableError, match=r"cat/1\.png cannot be reached"):
        loaded.photograph(0)
