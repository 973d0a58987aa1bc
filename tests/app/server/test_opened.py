"""Uploads are pictures of known formats, or are refused by name."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from clip_lens_plugin.app.server import opened
from clip_lens_plugin.app.server.opened import uploaded


def encoded(kind: str) -> bytes:
    file = BytesIO()
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3) % 251).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["png", "webp", "bmp"])
def test_a_picture_is_opened(kind: str) -> None:
    found = uploaded(encoded(kind), "/home/somebody/picture.png")
    assert found.name == "picture.png"
    assert found.open().size == (10, 10)


@pytest.mark.parametrize(
    "content",
    [b"<svg onload='alert(1)'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 40],
)
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="a\\.png cannot be used"):
        uploaded(content, "a.png")


def test_what_is_empty_or_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b"", None):
        with pytest.raises(ValueError, match="The file is empty"):
            uploaded(content)
    monkeypatch.setattr(opened, "MOST_UPLOADED", 2**20)
    with pytest.raises(ValueError, match="more than 1 MB"):
        uploaded(b"\0" * (2**20 + 1))
