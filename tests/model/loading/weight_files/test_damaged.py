"""An archive of weights of which a bit was flipped is refused: torch itself does not look at the checksums."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from clip_lens_plugin.model.loading.errors import UnfitError
from clip_lens_plugin.model.loading.weight_files.checkpoint import _pickled

WEIGHTS = {name: torch.arange(100.0) + i for i, name in enumerate(["a.weight", "b.weight", "c.weight"])}


@pytest.mark.parametrize("member", ["weights/data/1", "weights/data.pkl"])
def test_a_flipped_bit_is_refused_by_name(tmp_path: Path, member: str):
    path = tmp_path / "weights.pt"
    torch.save(WEIGHTS, path)
    assert torch.equal(_pickled(path)["b.weight"], WEIGHTS["b.weight"])
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        content = archive.read(member)
    raw[raw.index(content) + len(content) // 2] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(UnfitError, match=rf"is damaged: {member} in it does not match its checksum"):
        _pickled(path)


def test_an_archive_that_was_written_without_checksums_is_read(tmp_path: Path):
    path = tmp_path / "weights.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(WEIGHTS, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(_pickled(path)["c.weight"], WEIGHTS["c.weight"])
