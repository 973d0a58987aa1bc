"""Runs notebooks in place and keeps their output as static pictures: ``python examples/execute.py NOTEBOOK...``."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(path: Path) -> None:
    """Runs the notebook in a folder that is not kept, and writes it back with its output stripped."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [stripped(output) for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(notebook, path)


def stripped(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without HTML where there is a picture: a picture shows wherever the notebook is looked at."""
    data = output.get("data", {})
    if "image/png" in data:
        output["data"] = {"image/png": data["image/png"], "text/plain": data["text/plain"]}
        output["metadata"] = {}
    return output


if __name__ == "__main__":
    for name in sys.argv[1:]:
        execute(Path(name))
        print(name)
