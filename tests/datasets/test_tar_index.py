"""Tars made to hang, to fill the memory or to lead out: one line, or one sample with its reason."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile

import pytest

from clip_lens_plugin.datasets import ShardSource, as_source
from clip_lens_plugin.datasets.tar_index import index_tar
from clip_lens_plugin.files.given import UnreachableError
from clip_lens_plugin.images.pictures import UnreadableImageError
from tests.datasets.test_every_source import jpeg

END = bytes(1024)


def header(name: bytes, size: int, kind: bytes = b"0", link: bytes = b"") -> bytes:
    """512 bytes with a right checksum; a size that octal digits cannot hold is written to base 256."""
    field = b"%011o\0" % size if 0 <= size < 8**11 else (size % 2**96 | (1 << 95)).to_bytes(12, "big")
    made = bytearray(512)
    for start, value in ((0, name), (100, b"0000644\0"), (124, field), (148, b" " * 8), (156, kind), (157, link)):
        made[start : start + len(value)] = value
    made[257:265] = b"ustar\x0000"
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def tar(members: dict[str, bytes], others: tuple[tuple[str, bytes, str], ...] = ()) -> bytes:
    """Members with their data, and others with their type and the target of the link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
        for name, kind, link in others:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            made.addfile(member)
    return buffer.getvalue()


GOOD = tar({"a.jpg": jpeg(90), "a.cls": b"1", "b.jpg": jpeg(30), "b.json": b'{"label": 0}'})
SPARSE = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
PAX = header(b"x", len(SPARSE), b"x") + padded(SPARSE)
HOSTILE = {
    "a name of 2^50 bytes": header(b"././@LongLink", 2**50, b"L") + END,
    "pax records of 2^50 bytes": header(b"x", 2**50, b"x") + END,
    "a pax record of digits": header(b"x", 60_000, b"x") + padded(b"1" * 60_000) + GOOD,
    "a pax size that is negative": header(b"x", 20, b"x")
    + padded(b"18 size=-100000000\n")
    + header(b"a.jpg", 512)
    + END,
    "a size that is negative": header(b"b.jpg", 512) + bytes(512) + header(b"a.jpg", -1536) + END,
    "a size beyond the file": header(b"a.jpg", 2**40) + padded(jpeg(1)) + END,
    "a size beyond all files": header(b"a.jpg", 2**90) + padded(jpeg(1)) + END,
    "a map of holes beyond the end": PAX + header(b"a.jpg", 512) + padded(b"5000000\n1\n"),
    "a map of holes without numbers": PAX + header(b"a.jpg", 512) + padded(b"no") + END,
    "names of names": (header(b"././@LongLink", 5, b"L") + padded(b"a.jp\0")) * 2000 + GOOD,
    "cut in a member": GOOD[:700],
    "cut between members": GOOD.rstrip(b"\0"),
    "no tar": b"words " * 200,
    "nothing": b"",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_tar_that_tarfile_would_be_lost_in_is_refused_in_one_line(tmp_path, what):
    path = tmp_path / "a.tar"
    path.write_bytes(HOSTILE[what])
    with pytest.raises(ValueError, match=r"The shard .*a\.tar is cut off, damaged or no tar file.*anew\.$") as raised:
        ShardSource(path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300 + len(str(path))


def test_links_pipes_and_sparse_members_are_samples_with_a_reason(tmp_path):
    sparse = header(b"s.jpg", 512, b"S") + bytes(512)
    others = (
        ("l.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        ("h.jpg", tarfile.LNKTYPE, "a.jpg"),
        ("p.png", tarfile.FIFOTYPE, ""),
        ("b.cls", tarfile.SYMTYPE, "a.cls"),
        ("notes.txt", tarfile.SYMTYPE, "/etc/passwd"),
        ("folder.jpg", tarfile.DIRTYPE, ""),
    )
    (tmp_path / "a.tar").write_bytes(sparse + tar({"a.jpg": jpeg(90), "b.jpg": jpeg(30)}, others))
    source = as_source(tmp_path / "a.tar")
    reasons = {}
    for i in range(len(source)):
        try:
            source.read(i)
        except UnreadableImageError as error:
            reasons[source.name(i)] = str(error)
    assert reasons == {
        "a/s": "its .jpg is stored sparsely, which is not read",
        "a/l": "its .jpg is a link to '/etc/passwd', which is not followed",
        "a/h": "its .jpg is a link to 'a.jpg', which is not followed",
        "a/p": "its .png is no file",
        "a/b": "its .cls is a link to 'a.cls', which is not followed",
    }
    assert len(source) == 6


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"label": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"label": ' + b"9" * 9000 + b"}", "no JSON"),
        (json.dumps({"label": "x" * 2**20}).encode(), r"1,048,\d+ bytes, at most 1,048,576"),
    ],
)
def test_json_that_is_too_deep_or_too_long_is_a_reason(tmp_path, content, reason):
    members = {"a.jpg": jpeg(9), "a.json": content, "b.jpg": jpeg(90)}
    (tmp_path / "alone.tar").write_bytes(tar(members))
    with pytest.raises(ValueError, match=rf"not plain.*{reason}"):
        as_source(tmp_path / "alone.tar")
    (tmp_path / "a.tar").write_bytes(tar({**members, "c.jpg": jpeg(30), "c.json": b'{"label": 2}'}))
    source = as_source(tmp_path / "a.tar")
    with pytest.raises(UnreadableImageError, match=reason):
        source.read(0)
    assert [source.read(i).label for i in (1, 2)] == [-1, 2]


def test_an_image_larger_than_any_is_not_read(tmp_path):
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(header(b"a.jpg", 2**40))
        file.truncate(2**40 + 2048)  # without taking room on the disk
    with pytest.raises(UnreadableImageError, match=r"1,099,511,627,776 bytes, at most"):
        as_source(tmp_path / "a.tar").read(0)


def test_a_pipe_or_a_device_in_a_shards_place_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.tar")
    for address in (tmp_path / "a.tar", f"file://{tmp_path / 'a.tar'}"):
        with pytest.raises(ValueError, match=r"a\.tar is a pipe, not a file"):
            as_source(address)
    (tmp_path / "b.tar").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"b\.tar is a device, not a file"):
        as_source(tmp_path / "b.tar")


def test_a_link_to_a_shard_elsewhere_is_refused_in_a_folder_and_taken_by_its_path(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "a.tar").write_bytes(GOOD)
    (tmp_path / "root" / "a.tar").symlink_to(tmp_path / "a.tar")
    with pytest.raises(ValueError, match=r"a\.tar in .*root is a link that leads out .*own paths: ShardSource"):
        as_source(tmp_path / "root")
    assert len(as_source(tmp_path / "root" / "a.tar")) == 2


def test_a_disk_that_fails_is_not_taken_for_a_damaged_shard():
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(UnreachableError, match=r"a\.tar cannot be read: Input/output error"):
        index_tar(Failing(GOOD), "a.tar")
