"""The commands on the README and the pages: each has the options that it shows, and those that can run here run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from clip_lens_plugin import HookedCLIP, collect
from clip_lens_plugin.cli import SCENES_SEED, app
from clip_lens_plugin.scenes import ScenesDataset, draw, sample_scenes
from tests.support.pages import PAGES, README

pytestmark = pytest.mark.slow

STORES = ("store", "STORE", "collected")
STANDING_IN = (*STORES, "PHOTO.jpg", "pool.tsv")
ELSEWHERE = {
    "--model": "weights that would be downloaded",
    "--classes": "classes of another data set",
    "--groups": "attributes of the reader's photographs",
    "--names": "names of the reader's masks",
    "--layer": "neurons, which are kept of a model with more layers",
    "words": "a pool of the reader's, or all common words to encode",
    "explore": "a server, which does not end",
}
"""What keeps a command from running here; tests/cli and tests/app run these with data of their own."""


def commands_of(page: Path) -> list[list[str]]:
    """The arguments of each ``clip-lens`` command that a page shows."""
    shells = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(shells).replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    ours = [(words, [word.endswith("clip-lens") for word in words]) for words in split]
    return [words[is_command.index(True) + 1 :] for words, is_command in ours if any(is_command)]


def runs_here(arguments: list[str]) -> bool:
    """Whether a command reads a store or a photograph, for which others stand in, and nothing else.

    One that reads nothing draws hundreds of scenes; tests/cli runs it with fewer.
    """
    return any(word in STANDING_IN for word in arguments) and not ELSEWHERE.keys() & set(arguments)


SHELL = [page for page in [README, *sorted(PAGES.rglob("*.md"))] if commands_of(page)]
ALIKE = {tuple("store" if word in STORES else word for word in each) for page in SHELL for each in commands_of(page)}
RUN = sorted(each for each in ALIKE if runs_here([*each]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A store of a few drawn scenes, a photograph and a pool, under the names that pages give the reader's own."""
    folder = tmp_path_factory.mktemp("reader")
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    collect(model, ScenesDataset(12, SCENES_SEED, "shape"), folder / "store", "contributions", progress=False)
    draw(sample_scenes(1, seed=1)[0]).save(folder / "PHOTO.jpg")
    (folder / "pool.tsv").write_text("red shape\tcolour\nblue shape\tcolour\na circle\tshape\na square\tshape\n")
    return folder


@pytest.mark.parametrize("page", SHELL, ids=lambda page: page.stem)
def test_commands_on_a_page_have_the_options_that_it_shows(page):
    commands = typer.main.get_command(app).commands
    for name, *arguments in commands_of(page):
        commands[name].make_context(name, arguments)


def test_most_kinds_of_commands_run():
    assert {name for name, *_ in RUN} >= {"ablate", "explain", "report", "roles", "textspan", "verify"}


@pytest.mark.parametrize("arguments", RUN, ids=" ".join)
def test_a_command_on_a_page_runs(folder, monkeypatch, arguments):
    monkeypatch.setenv("CLIP_LENS_CACHE", "")
    monkeypatch.chdir(folder)
    out = Path(arguments[arguments.index("--out") + 1]) if "--out" in arguments else None
    assert out is None or not out.exists()
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert out is None or out.exists()
    assert result.output
