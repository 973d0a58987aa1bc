"""PIL starts no program and prints nothing, and all is as it was afterwards."""

from __future__ import annotations

import os
import stat
import warnings
from io import BytesIO
from pathlib import Path
from threading import Thread

import pytest
from PIL import EpsImagePlugin, Image

from clip_lens_plugin.datasets import as_source
from clip_lens_plugin.images.decoders import quiet_and_alone, without_terminal
from clip_lens_plugin.images.pictures import UnreadableImageError, open_upright
from tests.datasets.test_every_source import Items

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n"


class OfFiles(Items):
    """Decodes as torchvision's folders do."""

    def __getitem__(self, i):
        with Image.open(self.items[i]) as picture:
            return picture.convert("RGB"), 0


class Lazy(Items):
    """Leaves the decoding to who takes the picture."""

    def __getitem__(self, i):
        return Image.open(self.items[i])


@pytest.fixture
def ran(tmp_path, monkeypatch) -> Path:
    """A file that is there once something that calls itself Ghostscript has run."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "gs"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return tmp_path / "ran"


@pytest.mark.parametrize("start", [b"", b"\xc5\xd0\xd3\xc6\x1e\0\0\0" + len(EPS).to_bytes(4, "little") + b"\0" * 18])
def test_postscript_is_never_run(tmp_path, ran, start):
    path = tmp_path / "a.jpg"
    path.write_bytes(start + EPS)
    for read in (open_upright, lambda path: as_source(Lazy([path])).read(0), lambda p: as_source(OfFiles([p])).read(0)):
        with pytest.raises(UnreadableImageError, match=r"EPS|PostScript|not an image"):
            read(path)
    assert not ran.exists()
    with pytest.raises(OSError, match=r"cannot|identify|No such|exit|file"), Image.open(path) as picture:
        picture.load()
    assert ran.exists(), "The trap does not work."


def test_what_a_damaged_picture_makes_libraries_say_is_not_shown(capfd):
    buffer = BytesIO()
    Image.effect_noise((64, 48), 90).convert("1").save(buffer, "TIFF", compression="group4")
    whole = buffer.getvalue()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for at in range(30, 300, 30):
            damaged = bytearray(whole)
            damaged[at] ^= 16
            try:
                open_upright(BytesIO(damaged))
            except UnreadableImageError:
                continue
    assert capfd.readouterr() == ("", "")


def test_warnings_of_others_pass():
    with pytest.warns(UserWarning, match="mine"), quiet_and_alone():
        warnings.warn("mine", stacklevel=1)


def test_settings_are_given_back_when_the_last_of_several_threads_is_done(capfd, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "mine")

    def inside() -> None:
        for _ in range(50):
            with quiet_and_alone(), without_terminal():
                os.write(2, b"unheard")
                assert EpsImagePlugin.gs_binary is False

    threads = [Thread(target=inside) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"
    assert EpsImagePlugin.gs_binary == "mine"
