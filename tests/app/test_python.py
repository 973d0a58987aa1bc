"""Scripts are Python, and what was typed stands in them as a literal."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.app.neurons.neuron_words import COUNT
from clip_lens_plugin.app.pages import PAGES
from clip_lens_plugin.app.python import script
from clip_lens_plugin.app.state import State

HOSTILE = "');import os;os.system('x')#\n\\"
STATE = State("image", 3, (HOSTILE, "b"), ("L5", "L4H2", "M3"), "zero", ("L5H1",), neuron="L4N3")


@pytest.mark.parametrize("tab", PAGES)
@pytest.mark.parametrize("uploaded", [False, True])
def test_a_script_holds_what_was_typed_as_literals(explored: Explored, tab: str, uploaded: bool) -> None:
    made = ast.parse(script(explored, replace(STATE, tab=tab), uploaded))
    called = {node.func.id for node in ast.walk(made) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert called <= {
        *("head_text_scores", "interaction", "explain", "nearest_images", "mean_ablation_curve"),
        *("head_roles", "class_heads", "classifier_of_data", "pool_for"),
        *("text_span", "extreme_images", "upstream_tree"),
        *("second_order", "strongest_neurons"),
    }
    imported = {node.module for node in ast.walk(made) if isinstance(node, ast.ImportFrom)}
    assert all(module.startswith("clip_lens_plugin") for module in imported)
    literals = {node.value for node in ast.walk(made) if isinstance(node, ast.Constant)}
    assert (HOSTILE in literals) == (tab in ("image", "why", "neurons"))


def test_a_search_by_a_text_holds_it_as_a_literal(explored: Explored) -> None:
    made = ast.parse(script(explored, replace(STATE, tab="search", like="text"), uploaded=False))
    assert HOSTILE in {node.value for node in ast.walk(made) if isinstance(node, ast.Constant)}


def test_a_script_runs(explored: Explored) -> None:
    model, data = explored.model, explored.data
    images = [explored.photograph(row).open() for row in range(4)]
    asked = replace(STATE, texts=("a star", "a circle"))
    search = replace(asked, tab="search", heads=("L5H1", "L4H2"))
    pages = [replace(asked, tab=tab) for tab in ("image", "off", "heads")]
    cue = replace(asked, tab="heads", by="cue", heads=())
    for state in (*pages, cue, search, replace(search, like="text")):
        names = {"model": model, "data": data, "images": images}
        code = ast.parse(script(explored, state, uploaded=False))
        *before, last = code.body
        exec(compile(ast.Module(before, []), "script", "exec"), names)
        assert eval(compile(ast.Expression(last.value), "script", "eval"), names) is not None  # type: ignore[attr-defined]


def test_a_script_of_a_cue_is_of_the_groups_that_were_given(explored: Explored) -> None:
    state = replace(STATE, tab="heads", by="cue", heads=())
    given = replace(explored, spelled=replace(explored.spelled, effects="effects = GROUPS"))
    assert script(given, state, uploaded=False).endswith("effects = GROUPS\n\neffects.view()\n")
    assert "GROUPS" not in script(given, replace(state, by="share"), uploaded=False)
    opened = script(given, replace(state, heads=("L5H1",)), uploaded=False)
    assert "grid = effects.view()" in opened
    ast.parse(opened)


def test_a_script_of_neurons_runs(explored: Explored) -> None:
    images = [explored.photograph(row).open() for row in range(6)]
    for neuron, n in (("L4", COUNT), ("L4N3", 1)):
        names = {"model": explored.model, "data": explored.model.decompose(images).normalized(), "images": images}
        code = script(explored, replace(STATE, tab="neurons", texts=("a star",), neuron=neuron), uploaded=False)
        exec(code.replace(").view()", ")").replace("\nstrongest_neurons", "\nfound = strongest_neurons"), names)
        assert len(names["found"]) == n  # type: ignore[arg-type]
        assert names["pushes"].shape == (1, explored.model.cfg.d_mlp if n > 1 else 1, 1)  # type: ignore[attr-defined]
