"""The examples run on the embedded model, and what is kept of their output shows anywhere."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from clip_lens_plugin.shown import Shown

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
FEW_SCENES = "N_SCENES = 60"


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def texts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where texts that several cells embed are kept."""
    return tmp_path_factory.mktemp("texts")


@pytest.fixture(autouse=True)
def _kept_texts(monkeypatch: pytest.MonkeyPatch, texts_folder: Path) -> None:
    monkeypatch.setenv("CLIP_LENS_CACHE", str(texts_folder))


def run(path: Path) -> tuple[dict, list[object]]:
    """The notebook's variables after its last cell, and what its cells showed."""
    shown: list[object] = []
    namespace: dict = {"display": shown.append}
    backend = matplotlib.get_backend()
    plt.switch_backend("Agg")
    try:
        with torch.enable_grad():  # On leaving, gradients are as they were: a notebook may switch them off.
            for cell in code_cells(path):
                source = re.sub(r"^N_SCENES = \d+", FEW_SCENES, "".join(cell["source"]), flags=re.MULTILINE)
                *_, last = source.rstrip().split("\n")
                exec(compile(source, path.name, "exec"), namespace)
                if last.isidentifier() or last.startswith("views.") or ".view(" in last:
                    found = eval(last, namespace)
                    shown.append(found.view() if isinstance(found, Shown) else found)
    finally:
        plt.close("all")
        plt.switch_backend(backend)
    return namespace, shown


def test_which_head_reads_colour():
    found = runpy.run_path(str(EXAMPLES / "which_head_reads_colour.py"))["main"]()
    assert found["model"] > 0.95
    assert min(found["direct effect"], found["total effect"]) < found["model"]


def test_roles_stand_beside_the_answer_key():
    table = runpy.run_path(str(EXAMPLES / "roles_and_answer_key.py"))["main"](300, 19)
    assert len(table) > 30
    assert table["eta_squared"].between(0, 1).all()
    plain = table[table["eta_squared"] > 0.9]  # Of these heads there is no doubt.
    assert len(plain) >= 4
    assert list(plain["theme"]) == list(plain["key"])


def test_there_are_notebooks():
    assert {"tour.ipynb", "own_hooks.ipynb", "decision.ipynb", "imagenet_tables.ipynb"} <= {p.name for p in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept_is_static_and_tells_nothing_of_a_machine(path):
    outputs = [output for cell in code_cells(path) for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    assert all(output["output_type"] != "error" and output.get("name") != "stderr" for output in outputs)
    for output in outputs:
        data = {**output.get("data", {}), "text": output.get("text", "")}
        if "image/png" in data:
            assert "text/html" not in data
        text = "".join("".join(value) for kind, value in data.items() if not kind.startswith("image/"))
        assert "<script" not in text
        assert not re.search(r"/(tmp|work|home|root|opt|Users)/", text)
    assert path.stat().st_size < 2_000_000


def test_the_tour_shows_each_kind_of_view():
    found, shown = run(EXAMPLES / "tour.ipynb")
    assert found["contributions"].completeness_error() < 1e-5
    assert len({view.title for view in shown}) == len(shown) == 9
    assert found["curve"].query("kind == 'base'")["accuracy"].item() > 0.9


def test_own_hooks_do_what_they_say():
    found, _ = run(EXAMPLES / "own_hooks.ipynb")
    model, colours, truth = found["model"], found["colours"], found["truth"]
    named, blind = (colours.accuracy(each, truth).top1.value for each in (model(found["images"]), found["blinded"]))
    assert named > 0.95 > 0.6 > blind
    assert found["table"]["effect_mean"].min() < 0
    assert found["steered"].completeness_error() < 1e-4
    assert found["named_red"] > 0.5
    own = found["contributions"].heads[:, found["layer"], found["head"]]
    assert found["halved"].heads[:, found["layer"], found["head"]].norm() < own.norm()


def test_a_decision_adds_up():
    found, _ = run(EXAMPLES / "decision.ipynb")
    decision = found["decision"]
    assert max(table.error for table in decision.tables) < 1e-5
    label, runner_up = found["classifier"].cosines(found["usual"].embedding)[found["asked"]].topk(2).values
    assert decision.heads.rows["gap"].sum() == pytest.approx(float(label - runner_up), abs=1e-5)
    assert decision.gap > 0
    assert decision.removed


def test_beyond_the_direct_effect():
    found, shown = run(EXAMPLES / "beyond_direct.ipynb")
    assert len(shown) >= 3
    explained = found["neurons"]
    assert list(explained["neuron"]) == found["five"]
    assert explained["colour explains"].min() > explained["by chance"].max()
    table = found["table"].set_index("without")
    drawn = table.filter(like="random", axis=0)["heads, in a run"]
    assert table.loc["the five", "heads, in a run"] < drawn.min() < 0
    singles = table.filter(like="neuron", axis=0)["frozen"]
    assert table.loc["the five", "frozen"] == pytest.approx(singles.sum(), abs=1e-6)


def test_the_papers_tables():
    found, shown = run(EXAMPLES / "imagenet_tables.ipynb")
    assert found["curves"].groupby("question")["accuracy"].max().min() > 0.9
    assert all(store.completeness_error < 1e-5 for store in found["stores"].values())
    assert any(isinstance(each, pd.DataFrame) for each in shown)
    assert len(found["roles"].roles) == 32
    before, direct = (found["spurious"].share(stage).worst.value for stage in ("before", "direct"))
    assert direct > before + 0.3
    assert len(found["scores"].kinds) == 14
    assert not found["folder"].exists()
