"""The examples run on the embedded model."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import matplotlib


def test_which_head_reads_colour():
    path = Path(__file__).parent.parent / "examples" / "which_head_reads_colour.py"
    found = runpy.run_path(str(path))["main"]()
    assert found["model"] > 0.95
    assert min(found["direct effect"], found["total effect"]) < found["model"]


def test_notebooks_run_and_their_output_is_kept(monkeypatch):
    monkeypatch.setenv("CLIP_LENS_CACHE", "")
    matplotlib.use("Agg")
    notebooks = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        namespace: dict = {"display": print}
        for cell in cells:
            source = "".join(cell["source"]).replace("N_SCENES = 400", "N_SCENES = 60")
            exec(compile(source, path.name, "exec"), namespace)
        assert any(cell["outputs"] for cell in cells)
        curves, stores = namespace["curves"], namespace["stores"]
        assert curves.groupby("question")["accuracy"].max().min() > 0.9
        assert all(store.completeness_error < 1e-5 for store in stores.values())
