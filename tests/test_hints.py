"""Messages name what their reader types: calls for who writes Python, options on the command line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import clip_lens_plugin
from clip_lens_plugin.hints import for_command_line, given_as, go_on, hint, typed

PACKAGE = Path(clip_lens_plugin.__file__).parent


def test_who_reads_a_message_decides_and_an_error_does_not_change_that():
    said = []

    def say() -> None:
        said.append((hint("model=m", "--model M"), given_as("image_mean"), go_on()))

    def fail() -> None:
        with for_command_line("run it again"):
            say()
            raise KeyError

    say()
    with pytest.raises(KeyError):
        fail()
    say()
    python = ("model=m", "image_mean", "go on with resume")
    assert said == [python, ("--model M", "--image-mean", "run it again"), python]


def test_words_are_quoted_for_a_shell():
    assert typed("clip-lens", "report", "a b's") == """clip-lens report 'a b'"'"'s'"""


CALL = re.compile(
    r"HookedCLIP\.from_|\bfrom_pretrained\(|open_clip\.list_|\bcollect\(|"
    r"\b(resume|strict|heads|what|dtype|checkpoint|tokenizer|labels)=(True|False|[A-Z]{4}|')"
)
"""What only who writes Python can do."""

PYTHON_ALONE = {
    "adapters/structure.py": "an object of another package was wrapped",
    "ablation/curve.py": "constants are no option",
    "collection/given_data.py": "a command has a model for images",
    "collection/processes": "arguments of Python alone",
    "datasets/hub_dataset.py": "an object of datasets was given",
    "datasets/torch_dataset.py": "an object of torch was given",
    "model/bridged.py": "an object of another package was given",
    "model/text/text_side.py": "an object was wrapped without a tokenizer",
    "statistics/moments.py": "one covariance of all heads is asked for in Python alone",
    "views": "views are called in Python",
    "report": "views are called in Python",
    "decomposition": "parts that no command asks for",
    "retrieval.py": "no command",
    "maps": "no command",
}
"""Files, or folders, whose messages no command can show, and why."""


def test_no_message_of_a_command_names_a_call_in_python():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not any(name == each or name.startswith(f"{each}/") for each in PYTHON_ALONE):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [f"{name}:{node.lineno} {node.value[:80]}" for node in messages(tree) if CALL.search(node.value)]
    assert found == []


def messages(tree: ast.AST) -> list[ast.Constant]:
    """Strings that stand inside what is raised or said, but for those of ``hint``'s first argument."""
    spared = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hint" and node.args
        for inner in ast.walk(node.args[0])
    }
    return [
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        or (isinstance(node, ast.Call) and name_of(node.func) in ("say", "warn", "NoTexts"))
        for inner in ast.walk(node)
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and id(inner) not in spared
    ]


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_such_a_message_would_be_found():
    tree = ast.parse(
        "raise ValueError(f'{x}: give checkpoint=PATH')\nraise ValueError(hint('resume=True', '--resume'))"
    )
    assert [node.value for node in messages(tree) if CALL.search(node.value)] == [": give checkpoint=PATH"]
