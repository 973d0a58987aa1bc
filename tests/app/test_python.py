"""Scripts are Python, and what was typed stands in them as a literal."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.app.python import script
from clip_lens_plugin.app.state import State

HOSTILE = "');import os;os.system('x')#\n\\"
STATE = State("image", 3, (HOSTILE, "b"), ("L5", "L4H2", "M3"), "zero", ("L5H1",))


@pytest.mark.parametrize("tab", PAGES)
@pytest.mark.parametrize("uploaded", [False, True])
def test_a_script_holds_what_was_typed_as_literals(explored: Explored, tab: str, uploaded: bool) -> None:
    made = ast.parse(script(explored, replace(STATE, tab=tab), uploaded))
    called = {node.func.id for node in ast.walk(made) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert called <= {"head_text_scores", "explain", "nearest_images", "mean_ablation_curve"}
    imported = {node.module for node in ast.walk(made) if isinstance(node, ast.ImportFrom)}
    assert all(module.startswith("clip_lens_plugin") for module in imported)
    literals = {node.value for node in ast.walk(made) if isinstance(node, ast.Constant)}
    assert (HOSTILE in literals) == (tab in ("image", "why"))


def test_a_search_by_a_text_holds_it_as_a_literal(explored: Explored) -> None:
    made = ast.parse(script(explored, replace(STATE, tab="search", like="text"), uploaded=False))
    assert HOSTILE in {node.value for node in ast.walk(made) if isinstance(node, ast.Constant)}


def test_a_script_runs(explored: Explored) -> None:
    model, data = explored.model, explored.data
    images = [explored.photograph(row).open() for row in range(4)]
    stated = replace(STATE, texts=("a star", "a circle"), heads=("L5H1", "L4H2"))
    for state in (
        *(replace(stated, tab=tab) for tab in ("image", "off", "search")),
        replace(stated, tab="search", like="text"),
    ):
        names = {"model": model, "data": data, "images": images}
        code = ast.parse(script(explored, state, uploaded=False))
        *before, last = code.body
        exec(compile(ast.Module(before, []), "script", "exec"), names)
        assert eval(compile(ast.Expression(last.value), "script", "eval"), names) is not None  # type: ignore[attr-defined]
