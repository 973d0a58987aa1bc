"""A chunk is known by the checksum that belongs at its place."""

from __future__ import annotations

import google_crc32c
import numpy as np
import pytest

from clip_lens_plugin.collection.checks.chunks import ChunkChecksums, crc_at_end, fault_of

PATTERNS = ("mlps/c/{}/0/0", "mlps/c/{}/1/0", "label/c/{}")


def chunk(content: bytes) -> bytes:
    return content + google_crc32c.value(content).to_bytes(4, "little")


def test_a_chunk_in_its_place_is_whole_and_any_other_is_not():
    whole, other = chunk(b"values of a layer"), chunk(b"values of another")
    crc = crc_at_end(whole)
    assert fault_of(whole, crc) is None
    assert fault_of(other, crc) == "it is another chunk, or an older one"
    assert fault_of(None, crc) == "it is not there"
    assert fault_of(b"", crc) == "it is empty"
    for changed in (whole[:-1], whole[:3], whole[1:], whole + b"\0", b"junk"):
        assert fault_of(changed, crc) is not None
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        assert fault_of(bytes(changed), crc) is not None


def test_each_key_has_its_own_checksum():
    values = np.arange(6, dtype=np.uint32).reshape(2, 3)
    checksums = ChunkChecksums.from_bytes(PATTERNS, ChunkChecksums(PATTERNS, values).to_bytes())
    assert {key: value for key, _, value in checksums.every()} == {
        "mlps/c/0/0/0": 0,
        "mlps/c/1/0/0": 3,
        "mlps/c/0/1/0": 1,
        "mlps/c/1/1/0": 4,
        "label/c/0": 2,
        "label/c/1": 5,
    }
    assert all(checksums.expected(key) == value for key, _, value in checksums.every())
    for key in ("label/c/2", "label/c/-1", "label/c/", "label", "mlps/c/0/2/0", "mlps/zarr.json", "other/c/0"):
        assert checksums.expected(key) is None


def test_other_files_are_refused():
    found = ChunkChecksums(PATTERNS, np.zeros((2, 3), np.uint32)).to_bytes()
    for patterns, file in ((PATTERNS[:2], found), (PATTERNS, b"junk"), (PATTERNS, b"")):
        with pytest.raises(ValueError, match="it holds"):
            ChunkChecksums.from_bytes(patterns, file)
