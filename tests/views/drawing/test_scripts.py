"""Scripts are those of this package and of the installed circuitsvis; data cannot end their element."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import sys
from importlib.resources import files
from types import ModuleType, SimpleNamespace

import pytest

from clip_lens_plugin.views.drawing import scripts
from tests.views.conftest import EVIL_TEXT


def test_circuitsvis_is_the_installed_bundle_without_its_source_map():
    (packed,) = re.findall(r">([^<]*)</script>", scripts.circuitsvis())
    unpacked = gzip.decompress(base64.b64decode(packed)).decode()
    installed = files("circuitsvis").joinpath("dist", "cdn", "iife.js").read_text()
    assert unpacked == scripts.circuitsvis_source()
    assert unpacked.strip() == "\n".join(line for line in installed.splitlines() if "sourceMappingURL" not in line)
    assert len(packed) < 600_000


def test_the_policy_allows_exactly_these_scripts():
    allowed = re.findall(r"'sha256-([^']*)'", scripts.content_policy())
    sources = (scripts.runtime_source(), scripts.circuitsvis_source())
    assert allowed == [base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in sources]
    assert set(re.findall(r"'sha256-([^']*)'", scripts.content_policy(scripts.report_script_source()))) > set(allowed)


def test_data_cannot_end_its_element_and_holds_no_nan():
    element = scripts.data({"text": EVIL_TEXT})
    assert element.count("<") == 2
    assert json.loads(re.findall(r">(.*)</script>", element)[0]) == {"text": EVIL_TEXT}
    with pytest.raises(ValueError, match="JSON"):
        scripts.data({"value": float("nan")})


@pytest.mark.parametrize("source", [scripts.runtime_source(), scripts.report_script_source()])
def test_no_script_ends_early_or_reaches_out(source):
    assert "</script" not in source.lower()
    for word in ("fetch(", "XMLHttpRequest", "http:", "https:", "innerHTML", "eval(", "import("):
        assert word not in source, word


def test_the_running_cell_is_the_frontends(monkeypatch):
    shell = SimpleNamespace(parent_header={"metadata": {"cellId": "abc"}}, execution_count=7)
    notebook = ModuleType("IPython")
    notebook.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    assert scripts._running_cell() == "abc"
    shell.parent_header = {}
    assert scripts._running_cell() == "execution 7"
    notebook.get_ipython = lambda: None  # type: ignore[attr-defined]
    assert scripts._running_cell() is None


def test_colab_needs_it_in_every_output(monkeypatch):
    monkeypatch.setattr(scripts, "_cell_with_circuitsvis", ["first"])
    monkeypatch.setattr(scripts, "_running_cell", lambda: "second")
    assert not scripts.needed_in_this_cell()
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    assert scripts.needed_in_this_cell()
