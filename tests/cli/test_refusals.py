"""What cannot be used is refused in one line before anything is loaded, and what is printed is on one line too."""

from __future__ import annotations

import os
import sys

import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from clip_lens_plugin.cli import app
from clip_lens_plugin.cli.errors import one_line_errors
from clip_lens_plugin.cli.printing import MOST_OF_CELL, cell, print_path

NASTY = "a\x1b[2J\u202e[red]:warning:\udcff\n" + "x" * 10_000


@pytest.fixture(autouse=True)
def no_model(monkeypatch) -> None:
    """Nothing that is refused here needs a model."""
    from clip_lens_plugin.model.hooked_clip import HookedCLIP

    monkeypatch.setattr(HookedCLIP, "from_options", lambda *a, **k: pytest.fail("a model was loaded"))


def test_a_name_that_no_model_has() -> None:
    result = CliRunner().invoke(app, ["models", NASTY])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr


@pytest.fixture
def picture(tmp_path) -> str:
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    return str(tmp_path / "picture.png")


@pytest.mark.parametrize("command", ["report", "textspan", "ablate"])
def test_a_folder_that_is_none(command, refused, tmp_path) -> None:
    for address in ("file:///tmp/x", "s3://bucket/x"):
        assert "is an address" in refused(command, "--out", address)
    assert not os.path.exists("file:")
    (tmp_path / "file").write_text("x")
    assert "is a file, expected a folder" in refused(command, "--out", tmp_path / "file")
    assert f"{tmp_path / 'file'} is no folder" in refused(command, "--out", tmp_path / "file" / "x")
    assert "File name too long" in refused(command, "--out", "x" * 5000)


@pytest.mark.parametrize("command", ["report", "textspan", "ablate"])
def test_what_is_refused_leaves_no_folder(command, refused, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "there").mkdir()
    given = ["--images"] if command == "report" else []
    for out in ("new", "new/inside", "there", "there/inside"):
        assert "no image files" in refused(command, *given, tmp_path / "empty", "--out", tmp_path / out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "there"]


def test_roles_of_texts_without_themes(refused, tmp_path) -> None:
    (tmp_path / "texts.txt").write_text("a dog\na cat")
    printed = refused("report", "--roles", "--texts", tmp_path / "texts.txt", "--out", tmp_path / "out")
    assert "No text of the pool has a theme" in printed


def test_a_report_that_could_not_be_put_in_place(refused, tmp_path) -> None:
    (tmp_path / "report.html").mkdir()
    assert "report.html is a folder" in refused("report", "--out", tmp_path)


def test_a_page_that_could_not_be_put_in_place(refused, picture, tmp_path) -> None:
    (tmp_path / "folder.html").mkdir()
    for out, why in (
        ("file:///tmp/x.html", "is an address"),
        (tmp_path / "folder.html", "is a folder"),
        (tmp_path / "none" / "x.html", "There is no folder"),
        (tmp_path / "x.pdf.exe", "must end in one of"),
    ):
        assert why in refused("heatmap", picture, "--text", "a dog", "--out", out)


@pytest.mark.parametrize("text", ["", "  ", "\udcff"])
def test_a_text_that_is_none(text, refused, picture, tmp_path) -> None:
    assert "--text" in refused("heatmap", picture, "--text", "a dog", "--text", text, "--out", tmp_path / "x.html")


@pytest.mark.parametrize(
    "arguments", [["report"], ["textspan"], ["ablate"], ["collect"], ["verify"], ["heatmap", "HERE", "--text", "x"]]
)
def test_a_device_that_is_none(arguments, picture, tmp_path) -> None:
    arguments = [picture if each == "HERE" else each for each in arguments]
    out = [] if arguments[0] == "verify" else ["--out", str(tmp_path / "x.html")]
    result = CliRunner().invoke(app, [*arguments, *out, "--device", "gpu"])
    assert result.exit_code == 2
    assert result.stderr == (
        "clip-lens: The device 'gpu' cannot be used: expected one that torch has here, such as cpu, cuda, cuda:1, mps "
        "or xpu. All of torch's are in https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.device.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["collect", "--batch-size", "0"], "--batch-size"),
        (["collect", "--workers", "-1"], "--workers"),
        (["textspan", "--directions", "0"], "--directions"),
        *[([command, "--limit", "-1"], "--limit") for command in ("report", "collect", "textspan", "ablate")],
        *[([command, "--precision", "int8"], "--precision") for command in ("collect", "textspan", "ablate", "verify")],
    ],
)
def test_an_option_that_is_none(arguments, named, tmp_path) -> None:
    out = [] if arguments[0] == "verify" else ["--out", str(tmp_path / "x")]
    result = CliRunner().invoke(app, [*arguments, *out])
    assert result.exit_code == 2
    assert named in result.stderr
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    "error",
    [ValueError(NASTY), OSError(NASTY), MemoryError(NASTY), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_an_error_is_one_line(error, capsys) -> None:
    def fail() -> None:
        with one_line_errors(Console(stderr=True, highlight=False)):
            raise error

    with pytest.raises(Exception, match="2"):
        fail()
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("clip-lens: ")
    assert len(line) < 4000
    assert "\x1b" not in line
    assert isinstance(error, RuntimeError) or r"a\x1b[2J\u202e[red]:warning:" in line


def test_a_defect_keeps_its_traceback() -> None:
    def fail() -> None:
        with one_line_errors(Console(stderr=True)):
            raise RuntimeError("another")

    with pytest.raises(RuntimeError, match="another"):
        fail()


def test_a_cell_is_text(capsys) -> None:
    Console(width=500).print(cell(NASTY))
    shown = capsys.readouterr().out
    assert "a\\x1b[2J\\u202e[red]:warning:\ufffd xxx" in shown
    assert len(shown) < 2 * MOST_OF_CELL


def test_a_path_is_printed_as_it_is_but_on_a_terminal(capfdbinary, monkeypatch) -> None:
    path = os.fsdecode(b"caf\xe9\x1b")
    print_path(path)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_path(path)
    assert capfdbinary.readouterr().out == b"caf\xe9\x1b\n" + "caf\ufffd\\x1b\n".encode()
