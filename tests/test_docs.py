"""The pages of docs/: their code runs, their tables say what is so, and the reference lacks no public name."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module

import matplotlib.pyplot as plt
import pytest
import torch

import clip_lens_plugin
from tests.support.loops import formulas_of
from tests.support.pages import PAGES, ROOT, run, snippets

pytestmark = pytest.mark.slow

FACES = clip_lens_plugin.FACES
EQUATIONS = ("decomposition", "describe", "higher_order", "interactions", "saliency")


@pytest.fixture(autouse=True)
def nothing_is_shown_or_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIP_LENS_CACHE", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    plt.close("all")


FOR_TORCHRUN = PAGES / "how-to" / "distributed.md"
WITH_CODE = [page for page in sorted(PAGES.rglob("*.md")) if snippets(page)]


@pytest.mark.parametrize("page", [page for page in WITH_CODE if page != FOR_TORCHRUN], ids=lambda page: page.stem)
def test_code_on_a_page_runs(page):
    assert run(page)


def test_the_script_for_torchrun_runs_in_one_process(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", **address}.items():
        monkeypatch.setenv(name, value)
    assert len(run(FOR_TORCHRUN)["store"]) == 100
    assert (tmp_path / "store").is_dir()
    assert not torch.distributed.is_initialized()


def test_there_are_pages_with_code():
    assert {
        "index",
        "units",
        "model",
        "data",
        "words",
        "ablation",
        "maps",
        "patches-and-words",
        "retrieval",
        "hooks",
        "bridge",
        "transformer-lens",
    } <= {page.stem for page in WITH_CODE}


def test_the_reference_lacks_no_public_name():
    public = {f"clip_lens_plugin.{name}" for name in clip_lens_plugin.__all__ if not name.startswith("__")}
    for face in FACES:
        module = import_module(f"clip_lens_plugin.{face}")
        names = getattr(module, "__all__", None) or [name for name in vars(module) if is_public(module, name)]
        public |= {f"clip_lens_plugin.{face}.{name}" for name in names}
    public -= {f"clip_lens_plugin.{face}" for face in FACES}
    public -= {"clip_lens_plugin.ablation.mean_ablation_curve"}  # Stands under its name at the top.
    described = re.findall(r"^::: (\S+)$", "\n".join(p.read_text() for p in PAGES.rglob("*.md")), re.MULTILINE)
    assert public <= set(described)
    assert len(described) == len(set(described))


def is_public(module: object, name: str) -> bool:
    """Whether a module without ``__all__`` means the name for others: no private name and no module."""
    found = getattr(module, name)
    return not name.startswith("_") and getattr(found, "__module__", "").startswith("clip_lens_plugin.")


def test_functions_and_tests_of_the_table_of_equations_exist():
    _, _, table = (PAGES / "concepts.md").read_text().partition("## Equation, function, test")
    rows = [line.strip("|").split("|") for line in table.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for _, functions, tests in rows[1:]:
        for path in re.findall(r"`([\w.]+)`", functions):
            assert callable(found(path)) or isinstance(found(path), property), path
        for path, name in re.findall(r"`([\w./]+)::(\w+)`", tests):
            assert f"\ndef {name}(" in (ROOT / "tests" / path).read_text(), f"{path}::{name}"
        assert "`" in functions
        assert "::" in tests


@pytest.mark.parametrize("folder", EQUATIONS)
def test_the_table_of_equations_lacks_no_formula(folder):
    own = formulas_of(import_module(f"clip_lens_plugin.{folder}.equations"))
    text = (PAGES / "concepts.md").read_text()
    assert own
    assert [name for name in own if f"`{folder}.equations.{name}`" not in text] == []


def found(path: str) -> object:
    """What stands at a path in the package: in the longest part of it that is a module."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            module = import_module(".".join(["clip_lens_plugin", *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[cut:], module)
    raise AssertionError(f"{path} is nowhere in the package")


def test_every_link_leads_to_a_page_or_a_file():
    made = {"assets/report.png"} | {f"tutorials/{path.stem}.md" for path in (ROOT / "examples").glob("*.ipynb")}
    for page in PAGES.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("https://"):
                place = (page.parent / target).resolve()
                assert place.is_file() or place.relative_to(PAGES).as_posix() in made, f"{page.name}: {target}"


def test_the_site_loads_nothing_from_elsewhere():
    settings = (ROOT / "docs" / "mkdocs.yml").read_text()
    assert "font: false" in settings
    assert "http" not in re.sub(r"#.*", "", settings)
    assert not re.search(r"<(script|link|img|iframe)[^>]*https?:", "".join(p.read_text() for p in PAGES.rglob("*.md")))
