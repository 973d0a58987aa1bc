"""What is not loaded before it is needed, in fresh interpreters, and that every public name still is found."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

import clip_lens_plugin
from clip_lens_plugin.cli import app

pytestmark = pytest.mark.slow

HEAVY = ("torch", "transformer_lens", "open_clip", "transformers", "timm", "pandas", "matplotlib", "scipy", "numpy")
COMMANDS = sorted(typer.main.get_command(app).commands)


def loaded_by(code: str) -> set[str]:
    """Modules of a fresh interpreter that ran the code."""
    end = "import atexit, sys; atexit.register(lambda: print('\\n' + ' '.join(sys.modules)))\n"
    ran = subprocess.run([sys.executable, "-c", end + code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.splitlines()[-1].split())


RUN = """
import sys
from clip_lens_plugin.cli import app
for arguments in {}:
    sys.argv = ["clip-lens", *arguments]
    try:
        app()
    except SystemExit:
        pass
    else:
        raise AssertionError(arguments)
"""
MISTAKEN = [["nonsense"], ["--nonsense"], ["ablate", "--nonsense"], ["collect", "--out", "x", "--what", "nonsense"]]


@pytest.mark.parametrize(
    "code",
    [
        "import clip_lens_plugin; clip_lens_plugin.__version__; dir(clip_lens_plugin)",
        RUN.format([["--help"], [], ["--version"]]),
        RUN.format([[name, "--help"] for name in COMMANDS]),
        RUN.format(MISTAKEN),
    ],
    ids=["import", "help", "help of commands", "mistakes"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    found = loaded_by(code)
    assert "clip_lens_plugin" in found
    assert found.isdisjoint(HEAVY)


FACES = ("", ".collection", ".model.loading", *(f".{name}" for name in clip_lens_plugin.FACES))


@pytest.mark.parametrize("face", FACES)
def test_every_name_of_a_face_is_found_where_its_stub_says(face: str) -> None:
    module = import_module(f"clip_lens_plugin{face}")
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


@pytest.mark.parametrize("face", FACES)
def test_no_module_bears_the_name_of_what_its_package_exports(face: str) -> None:
    module = import_module(f"clip_lens_plugin{face}")
    folder = Path(str(module.__file__)).parent
    beside = {path.stem for path in folder.iterdir()}
    assert beside.isdisjoint(module.__all__)


def test_an_unknown_name_is_said() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        clip_lens_plugin.nonsense  # noqa: B018


def test_modules_with_further_names_come_with_the_package() -> None:
    code = "import clip_lens_plugin as lens; [getattr(lens, name) for name in lens.FACES]; lens.views.View"
    assert {f"clip_lens_plugin.{name}" for name in clip_lens_plugin.FACES} <= loaded_by(code)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = clip_lens_plugin.nonsense
