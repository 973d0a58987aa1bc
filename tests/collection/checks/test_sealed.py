"""No bit of a sealed file can be another without being noticed."""

from __future__ import annotations

import pytest

from clip_lens_plugin.collection.checks.sealed import sealed, unsealed

CONTENT = {"n": 3, "error": 1.5e-7, "names": ["ä", "b"], "nested": {"none": None, "true": True}}


def test_content_comes_back_and_equal_contents_are_equal_bytes():
    assert unsealed(sealed(CONTENT)) == CONTENT
    assert sealed(dict(CONTENT)) == sealed(CONTENT)


def test_every_flipped_bit_and_every_cut_is_noticed():
    whole = sealed(CONTENT)
    for position in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[position] ^= 1 << bit
            with pytest.raises(ValueError, match=r"it is no JSON|it holds no|its content"):
                unsealed(bytes(changed))
        with pytest.raises(ValueError, match="it is no JSON"):
            unsealed(whole[:position])


@pytest.mark.parametrize("found", [b"5", b"null", b"[" * 100_000, b"\xff\xfe", b'{"sha256": 5}'])
def test_other_files_are_refused(found):
    with pytest.raises(ValueError, match=r"it is no JSON|it holds no|its content"):
        unsealed(found)
