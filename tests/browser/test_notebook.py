"""A notebook that a kernel ran, exported as HTML, shows its views without a network."""

from __future__ import annotations

import json

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook

from clip_lens_plugin.views.drawing import scripts
from tests.browser.conftest import states

pytestmark = pytest.mark.browser

FIRST = """
from clip_lens_plugin import HookedCLIP, Moments, TextPool, views
from clip_lens_plugin import text_span
from clip_lens_plugin.maps.patch_text import head_text_scores
from clip_lens_plugin.scenes.dataset import ScenesDataset

model = HookedCLIP.from_pretrained("scenes", device="cpu")
pictures = [ScenesDataset(24, 3)[i] for i in range(24)]
images = model.prepare(pictures)
moments = Moments.from_contributions(model.decompose(images).normalized())
spans = text_span(model, moments, TextPool.from_strings(["red shape", "blue shape", "a star"]), 3, [(5, 0), (5, 1)])
views.head_text_view(head_text_scores(model, images[0], ["red shape", "a star"]), pictures[0])
"""
CELLS = [FIRST, "views.text_span_view(spans)", "views.head_texts_view(spans[5, 1])"]


@pytest.fixture(scope="module")
def executed() -> nbformat.NotebookNode:
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIP_LENS_CACHE", "")
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return notebook


def test_the_bundle_stands_in_one_output_and_every_output_has_a_picture(executed):
    outputs = [cell["outputs"][-1]["data"] for cell in executed.cells]
    holds = [f'id="{scripts.CIRCUITSVIS_ID}"' in output["text/html"] for output in outputs]
    assert holds == [False, True, False]
    assert all(output["image/png"] for output in outputs)
    assert len(json.dumps(executed)) < 2_000_000


def test_exported_it_shows_without_a_network(executed, tmp_path, open_offline):
    exporter = HTMLExporter(template_name="basic", require_js_url="", mathjax_url="", jquery_url="")
    body, _ = exporter.from_notebook_node(executed)
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><meta charset='utf-8'><title>notebook</title>{body}")
    page = open_offline(tmp_path / "notebook.html")
    assert states(page) == ["patch-text drawn", "circuitsvis drawn", "circuitsvis drawn"]
    page.get_by_role("radio", name="a star").click()
    assert "“a star”" in page.inner_text(".cl-readout")
    assert "blue shape" in page.locator(".cl-circuitsvis").nth(0).inner_text().replace("\u00a0", " ")


def test_a_frontend_that_names_its_cells_keeps_the_bundle_in_one_cell(monkeypatch):
    monkeypatch.setenv("CLIP_LENS_CACHE", "")
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        held = "from clip_lens_plugin.views.drawing import scripts; print(scripts.needed_in_this_cell())"
        assert [ran(client, held, cell) for cell in ("one", "two", "one", "two")] == ["True", "False", "True", "False"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def ran(client, code: str, cell: str) -> str:
    """What a cell prints, sent as JupyterLab sends it."""
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    message = client.session.msg("execute_request", content, metadata={"cellId": cell})
    client.shell_channel.send(message)
    printed = ""
    while True:
        answer = client.get_iopub_msg(timeout=60)
        if answer["parent_header"].get("msg_id") != message["header"]["msg_id"]:
            continue
        if answer["msg_type"] == "stream" and answer["content"]["name"] == "stdout":
            printed += answer["content"]["text"]
        if answer["msg_type"] == "status" and answer["content"]["execution_state"] == "idle":
            return printed.strip()
