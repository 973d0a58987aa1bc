"""Analyses ask data what they have, and never of which class they are: contributions in memory or a store."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import clip_lens_plugin
from clip_lens_plugin.decomposition.analysed import Analysed

ROOT = Path(clip_lens_plugin.__file__).parent
OWN = ("decomposition", "collection")
"""Folders that make the data."""

WITHOUT_DATA = ("datasets", "labelling", "model")
"""Folders that come before data: what has classes, names or a readout there is another thing."""

IMAGES_OR_CONTRIBUTIONS = {"interactions/interacting.py", "interactions/means.py", "retrieval/nearest.py"}
"""Where an argument may be images or contributions, so that its class says which of the two was given."""

CLASSES = {"ContributionStore", "Contributions"}
MEMBERS = {name for name in vars(Analysed) if not name.startswith("_")}


def named(node: ast.AST) -> set[str]:
    found = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return found | {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}


def classes_tested(source: str) -> Iterator[str]:
    """Classes of data that a module compares with, by isinstance or in a pattern."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and named(node.func) & {"isinstance", "issubclass"}:
            yield from sorted(named(node.args[1]) & CLASSES)
        elif isinstance(node, ast.MatchClass):
            yield from sorted(named(node.cls) & CLASSES)


def members_guessed(source: str) -> Iterator[str]:
    """What all data have, where a module asks whether something has it, or gives a default."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) >= 2:
            asks = node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
            if asks and isinstance(node.args[1], ast.Constant) and node.args[1].value in MEMBERS:
                yield str(node.args[1].value)


def others(left_out: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if place.parts[0] not in left_out:
            yield place.as_posix(), path.read_text(encoding="utf-8")


def test_no_analysis_tests_the_class_of_data() -> None:
    found = {place: set(classes_tested(source)) for place, source in others(OWN)}
    assert len(found) > 150
    assert {place for place, classes in found.items() if "ContributionStore" in classes} == set()
    assert {place for place, classes in found.items() if classes} == IMAGES_OR_CONTRIBUTIONS


def test_no_analysis_guesses_what_data_have() -> None:
    assert {"has_rows", "part_moments", "neuron_layers", "own_source", "origin"} <= MEMBERS
    found = {place: [*members_guessed(source)] for place, source in others((*OWN, *WITHOUT_DATA))}
    assert {place: names for place, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "if isinstance(data, ContributionStore):\n    pass",
        "stored = data is not None and isinstance(data, store.ContributionStore)",
        "def f(x):\n    return [isinstance(each, (int, ContributionStore)) for each in x]",
        "isinstance(data, SecondOrder | ContributionStore)",
        "match data:\n    case ContributionStore(plan=plan):\n        pass",
    ],
)
def test_a_class_that_is_tested_is_found(source: str) -> None:
    assert list(classes_tested(source)) == ["ContributionStore"]


def test_a_guess_is_found_and_a_plain_question_is_not() -> None:
    assert list(members_guessed('rows = getattr(data, "has_rows", True)')) == ["has_rows"]
    assert list(members_guessed('if hasattr(data, "part_moments"):\n    pass')) == ["part_moments"]
    plain = 'def f(data: ContributionStore):\n    return data.has_rows, getattr(data, name), getattr(data, "x", None)'
    assert list(members_guessed(plain)) == list(classes_tested(plain)) == []
    assert list(classes_tested("isinstance(data, Analysed) or isinstance(contributions_of, int)")) == []
