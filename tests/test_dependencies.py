"""Every library that the package imports is declared, for all or in the extra whose features need it."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "clip_lens_plugin"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE, EXTRAS = PROJECT["dependencies"], PROJECT["optional-dependencies"]

OPTIONAL = {"gradio": "app", "fastapi": "app", "uvicorn": "app", "h5py": "segmentation"}
"""Libraries that only some features need, each to the extra that brings it."""

OF_THE_USER = {"datasets"}
"""What whoever gives its objects has installed; its bounds are in the tests' extra."""


def imported(sources: Iterable[str]) -> Iterator[str]:
    """The first name of every module that is imported, wherever the import stands."""
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                yield node.module.partition(".")[0]


def undeclared(modules: Iterable[str], requirements: Iterable[str]) -> list[str]:
    """Modules of other libraries that no requirement brings itself: what it needs in its turn may change."""
    names = {canonicalize_name(Requirement(each).name) for each in requirements}
    others = set(modules) - sys.stdlib_module_names - {PACKAGE.name}
    brought = packages_distributions()
    return sorted(each for each in others if not names & {canonicalize_name(one) for one in brought.get(each, ())})


@pytest.fixture(scope="module")
def modules() -> set[str]:
    return set(imported(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")))


def test_what_every_feature_needs_is_declared(modules: set[str]) -> None:
    assert {"torch", "markupsafe", "PIL", "google_crc32c"} <= modules
    assert undeclared(modules - OPTIONAL.keys() - OF_THE_USER, BASE) == []


def test_what_some_features_need_is_in_their_extra_and_in_the_tests(modules: set[str]) -> None:
    assert modules >= OPTIONAL.keys() | OF_THE_USER, "A library is listed that is no longer imported."
    assert sorted(OPTIONAL) == undeclared(OPTIONAL, BASE), "It is declared for all."
    for module, extra in OPTIONAL.items():
        assert undeclared([module], EXTRAS[extra]) == [], extra
    assert undeclared(OPTIONAL.keys() | OF_THE_USER, EXTRAS["test"]) == []
    bounds = {each for extra in ("app", "segmentation") for each in EXTRAS[extra]}
    assert bounds <= set(EXTRAS["test"]), "The tests' bounds are others than the extra's."


def test_what_is_not_declared_is_found() -> None:
    source = "import os, PIL.Image\ndef f():\n    from markupsafe import Markup\nimport numpy as np"
    assert undeclared(imported([source]), ["Pillow>=11", "numpy"]) == ["markupsafe"]
    assert undeclared(["no_such_library"], ["numpy"]) == ["no_such_library"]


@pytest.mark.parametrize("requirement", [*BASE, *EXTRAS["app"], *EXTRAS["segmentation"]])
def test_there_are_two_bounds_and_the_installed_release_is_within_them(requirement: str) -> None:
    asked = Requirement(requirement)
    assert {"<", ">="} == {each.operator for each in asked.specifier}
    assert asked.specifier.contains(version(asked.name))
