"""The heat map command: a page or a figure of a picture, and one line for what it cannot use."""

from __future__ import annotations

import matplotlib.image
import pytest
from typer.testing import CliRunner

from clip_lens_plugin.cli import app
from clip_lens_plugin.scenes.dataset import ScenesDataset

pytestmark = pytest.mark.slow


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "<b>scene.png"
    ScenesDataset(1, 0)[0].resize((80, 56)).save(path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["heatmap", *(str(each) for each in arguments)])


def test_a_page_holds_the_texts_and_the_name_as_text(picture, tmp_path):
    out = tmp_path / "map.html"
    result = run(picture, "--text", "red circle", "--text", "blue square", "--out", out)
    assert result.exit_code == 0, result.output
    assert str(out) in result.output
    assert result.stderr.splitlines()[-1].startswith(f"next: clip-lens collect {tmp_path} --out {tmp_path.name}-collec")
    page = out.read_text()
    assert "red circle" in page
    assert "<b>scene" not in page


def test_a_figure_has_a_panel_a_text_beside_the_photograph(picture, tmp_path):
    sizes = []
    for texts in (["red circle"], ["red circle", "blue square"]):
        out = tmp_path / f"{len(texts)}.png"
        arguments = [part for text in texts for part in ("--text", text)]
        result = run(picture, *arguments, "--head", "5.1", "--head", "4.0", "--out", out)
        assert result.exit_code == 0, result.output
        sizes.append(matplotlib.image.imread(out).shape[1])
    assert sizes[1] > 1.2 * sizes[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "map.eps"], "must end in one of"),
        (["--out", "map.html", "--head", "1.1"], "chosen on the page"),
        (["--out", "map.png", "--head", "one"], "LAYER.HEAD"),
        (["--out", "map.png", "--head", "6.0"], "layers 0 to 5"),
        (["--out", "map.png", "--contrast"], "two or more texts"),
    ],
)
def test_what_cannot_be_used_ends_in_one_line(picture, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(picture, "--text", "red circle", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_a_file_that_is_no_picture_is_named(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no picture")
    for given, message in ((path, "not an image"), (tmp_path / "absent.png", "no file")):
        result = run(given, "--text", "a dog")
        assert result.exit_code == 2
        assert message in result.output
